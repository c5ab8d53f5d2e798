# SPDX-License-Identifier: Apache-2.0
"""Views of images and plans for stores: pure functions, so plain tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.names.reference import ImageName, assign_names, parse_repository_path
from podman_cvmfs.oci.documents import Descriptor, Digest, layer_ids, parse_config
from podman_cvmfs.plan.lay_out import EMPTY, ImageView, image_layer_id, view_of
from podman_cvmfs.plan.layers import freed_images, orphaned_views
from podman_cvmfs.plan.make import Plan, candidate_of, make_plan
from podman_cvmfs.plan.retirement import GRACE, Retention, is_retired, retired_since
from podman_cvmfs.repository.whiteouts import DirectoryFacts, Markers
from podman_cvmfs.resolve.image import FlatRoot, Layer, ResolvedImage
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Overlay, Policy, Reuse, View
from podman_cvmfs.store.json_files import images_json, layer_json, layers_json
from podman_cvmfs.store.layout import SPACER_ID, piece_of_entry
from podman_cvmfs.store.records import (
    LayerDirectory,
    Link,
    LocalPart,
    Node,
    Part,
    StoreContent,
    StoredLayer,
    layers_of,
)

HUB = "registry.hub.docker.com/library"


def image(label: str, diffs: str, *, flat: bool = True, files: bool = True) -> ResolvedImage:
    """An image with one layer for each letter of ``diffs``; ``label`` makes its config unique."""
    diff_ids = [Digest.of(letter.encode()) for letter in diffs]
    document = {
        "config": {"Labels": {"l": label}},
        "rootfs": {"diff_ids": [str(diff_id) for diff_id in diff_ids]},
    }
    config = parse_config(json.dumps(document).encode())
    layers = tuple(
        Layer(
            layer_id,
            diff_id,
            Descriptor("tar+gzip", Digest.of(f"blob {letter}".encode()), 10),
            f"/r/.layers/{letter}" if files else None,
            100,
            skeleton=Skeleton(),
            own_skeleton=Skeleton(),
        )
        for letter, layer_id, diff_id in zip(diffs, layer_ids(diff_ids), diff_ids)
    )
    root = FlatRoot(f"/r/.flat/{config.digest.hex}", ("tmp",)) if flat else None
    return ResolvedImage(config.digest, config, "cache", b"{}", layers, root)


def plan(
    current: StoreContent,
    wanted: dict[str, ResolvedImage],
    now: int = 1000,
    new: str | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> Plan:
    """Plan for ``wanted`` (path -> image); only the image at ``new``, if given, is resolved."""
    candidates = {
        found.source_id.hex: candidate_of(found, view_of(found, policy), "/r")
        for path, found in wanted.items()
        if new in (None, path)
    }
    names = {parse_repository_path(path): found.source_id.hex for path, found in wanted.items()}
    return make_plan(current, names, candidates, str(policy), Retention(now))


def below(view: ImageView, directory: LayerDirectory) -> list[Part]:
    """What a layer mounts, nearest first."""
    pieces = {piece.piece_id: piece.part for piece in view.pieces}
    return [pieces[each] for each in directory.lowers]


def test_flat_view_shows_one_directory_and_counts_every_layer() -> None:
    view = view_of(image("x", "abcd"), Policy())
    assert view.kind == "flat"
    records = [stored for stored, _ in view.layers]
    directories = [directory for _, directory in view.layers]
    assert len(records) == 4, "podman history wants as many layers as the config tells of"
    assert [record.parent for record in records] == [None, *(r.layer_id for r in records[:-1])]
    assert all(directory.part == EMPTY for directory in directories)
    assert sum(record.diff_size for record in records) == 400
    assert below(view, directories[0])[1:] == [Link("/r/.layers/a")]
    assert [directory.lowers for directory in directories[1:-1]] == [(), ()]
    local, link = below(view, directories[-1])
    assert local == LocalPart((Node("", mode=0o555), Node(".cvmfscatalog", is_whiteout=True)))
    assert isinstance(link, Link) and "/.flat/" in link.target
    genuine = layer_ids([layer.diff_id for layer in image("x", "abcd").layers])
    assert [r.layer_id in genuine for r in records] == [True, False, False, False], (
        "a pull's ID is that layer's by itself"
    )
    assert [r.diff_id is not None for r in records] == [True, False, False, False]


def test_only_a_plain_base_is_advertised_to_pulls() -> None:
    view = view_of(image("x", "ab"), Policy())
    base, top = (layer_json(stored) for stored, _ in view.layers)
    assert base["diff-digest"] == str(Digest.of(b"a"))
    assert base["compressed-diff-digest"] == str(Digest.of(b"blob a"))
    assert base["compression"] == 2
    assert top["diff-digest"] not in [str(Digest.of(b"a")), str(Digest.of(b"b"))]
    assert "compressed-diff-digest" not in top


def test_what_each_image_is_shown_by() -> None:
    assert view_of(image("x", "a"), Policy()).kind == "layers"
    assert view_of(image("x", "a", files=False), Policy()).kind == "flat"
    assert view_of(image("x", ""), Policy()).layers == ()
    assert len(view_of(image("x", "abc", files=False), Policy()).layers) == 3
    assert view_of(image("x", "ab", flat=False), Policy()).kind == "layers"
    with pytest.raises(RepositoryError, match="2 of its 2 layers are missing"):
        view_of(image("x", "ab", flat=False, files=False), Policy())


def test_all_that_a_layer_shows_lies_below_its_empty_diff() -> None:
    """What a container deletes is looked for in what ``lower`` names; and whatever takes the place
    of ``diff`` hides nothing."""
    shown = looked_at(image("x", "abc"), b=_DELETES[0])
    for view in View:
        for reuse in Reuse:
            found = view_of(shown, Policy(view, reuse))
            for stored, directory in (*found.layers, *found.beside):
                assert directory.part == EMPTY
                assert stored.lowers == directory.lowers
                assert set(directory.lowers) <= {piece.piece_id for piece in found.pieces}


def test_the_layer_that_shows_an_image_has_an_id_of_its_own() -> None:
    """It derives from what it shows, so what stands on an ID never sees anything else."""
    one, other = image("1", "ab"), image("2", "ab")
    tops = [view_of(each, Policy()).layers[-1] for each in (one, one, other)]
    assert tops[0] == tops[1]
    assert tops[0][0].layer_id != tops[2][0].layer_id, "another merged root"
    assert tops[0][0].layer_id == image_layer_id(tops[0][1].lowers, tops[0][0].parent)
    assert {each.layer_id for each in one.layers}.isdisjoint(t[0].layer_id for t in tops)


def test_an_image_of_one_layer_is_that_layer_where_both_look_alike() -> None:
    found = image("x", "a")
    view = view_of(found, Policy())
    assert [stored.layer_id for stored, _ in view.layers] == [found.layers[0].layer_id]
    assert not view.beside
    own = replace(found, skeleton=Skeleton((Node("opt/app"),)))
    view = view_of(own, Policy())
    (top,), (base,) = view.layers, view.beside
    assert base[0].layer_id == found.layers[0].layer_id and base[0].diff_id is not None
    assert top[0].layer_id != base[0].layer_id and top[0].twin == base[0].layer_id
    assert not view_of(own, Policy(reuse=Reuse.NONE)).beside


def test_images_on_one_base_share_all_but_the_top() -> None:
    content = plan(StoreContent(), {"r/x:1": image("1", "abc"), "r/x:2": image("2", "abd")}).content
    assert len(content.layers) == 4, "a base, a stand-in, two tops"


def test_layers_json_lists_parents_first() -> None:
    content = plan(
        StoreContent(), {f"r/x:{n}": image(str(n), f"{n}{n + 1}{n}") for n in range(6)}
    ).content
    seen: set[str | None] = {None}
    for record in json.loads(layers_json(content)):
        assert record.get("parent") in seen
        seen.add(record["id"])
    assert seen == {None, *content.layers}


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ([("quay.io/a:1", "A")], {"quay.io/a:1": "A"}),
        ([(f"{HUB}/a:1", "A")], {"docker.io/library/a:1": "A", f"{HUB}/a:1": "A"}),
        (
            [(f"{HUB}/a:1", "A"), ("docker.io/library/a:1", "B")],
            {"docker.io/library/a:1": "B", f"{HUB}/a:1": "A"},
        ),
        (
            [(f"{HUB}/a:1", "A"), ("registry-1.docker.io/library/a:1", "B")],
            {
                "docker.io/library/a:1": "A",
                f"{HUB}/a:1": "A",
                "registry-1.docker.io/library/a:1": "B",
            },
        ),
    ],
)
def test_every_name_has_one_image(
    published: list[tuple[str, str]], expected: dict[str, str]
) -> None:
    pairs = [(parse_repository_path(path), image_id) for path, image_id in published]
    assert assign_names(pairs) == expected


def test_one_image_under_many_names() -> None:
    one = image("1", "ab")
    content = plan(StoreContent(), {"r/x:1": one, "r/y:2": one, f"{HUB}/z:3": one}).content
    (record,) = json.loads(images_json(content))
    assert record["names"] == ["docker.io/library/z:3", "r/x:1", "r/y:2", f"{HUB}/z:3"]


def test_the_same_wishes_give_the_same_content() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "c")}
    first = plan(StoreContent(), wanted)
    again = plan(first.content, wanted, new="none", now=2000)
    assert again.content == first.content
    assert not (again.layers or again.images or again.added or again.removed or again.moved)
    assert plan(first.content, wanted, now=2000).content == first.content


def test_a_removed_image_leaves_its_layers_for_the_grace_period() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), wanted).content
    del wanted["r/x:1"]
    second = plan(first, wanted, new="none", now=2000)
    assert second.removed == ("r/x:1",)
    assert sum(not is_retired(each) for each in second.content.images.values()) == 1
    assert plan(second.content, wanted, new="none", now=2000).content == second.content
    retired = {layer.layer_id: layer.retired for layer in second.content.layers.values()}
    assert set(retired) == set(first.layers)
    gone = layers_of_image(first, "r/x:1")
    assert len(gone) == 2
    assert {layer_id for layer_id, since in retired.items() if since == 2000} == gone
    assert list(second.content.retired_entries.values()) == [2000]  # the image's own files
    assert not set(map(piece_of_entry, second.content.retired_entries)) - {None}, "still mounted"
    unchanged = plan(second.content, wanted, new="none", now=2000 + GRACE - 1).content
    assert unchanged == second.content
    last = plan(second.content, wanted, new="none", now=2000 + GRACE).content
    assert set(last.layers) == set(first.layers) - gone
    assert not last.retired_entries
    assert last.pieces() < first.pieces()


def test_grace_and_what_is_needed_beyond_it() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), wanted).content
    top = first.images[first.names["r/x:1"]].top_layer
    assert top is not None
    names = {parse_repository_path("r/y:1"): wanted["r/y:1"].source_id.hex}

    def layers_after(grace: int, needed: tuple[str, ...] = ()) -> int:
        retention = Retention(2000, grace, needed)
        return len(make_plan(first, names, {}, first.policy, retention).content.layers)

    assert layers_after(1) == 4
    assert layers_after(0) == 2
    assert layers_after(0, (top,)) == 4, "with its base"
    assert layers_after(0, ("0" * 64,)) == 2


@pytest.mark.parametrize(
    ("since", "now", "expected"),
    [
        (None, 2_000_000_000, 2_000_000_000),
        (1_900_000_000, 2_000_000_000, 1_900_000_000),
        (2_000_000_001, 2_000_000_000, 2_000_000_000),
        (0, 2_000_000_000, 2_000_000_000),
        (5, 10, 5),
    ],
)
def test_times_that_cannot_be_right(since: int | None, now: int, expected: int) -> None:
    assert retired_since(since, now) == expected


def test_an_image_that_comes_back_takes_its_layers_up_again() -> None:
    both = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), both).content
    second = plan(first, {"r/y:1": both["r/y:1"]}, new="none", now=2000).content
    third = plan(second, both, now=3000)
    assert third.content.layers == first.layers
    assert third.added == ("r/x:1",)


def test_a_moved_name() -> None:
    first = plan(StoreContent(), {"r/x:1": image("1", "ab")}).content
    second = plan(first, {"r/x:1": image("2", "ac")}, now=2000)
    assert second.moved == ("r/x:1",)
    assert not (second.added or second.removed)
    assert sum(not is_retired(each) for each in second.content.images.values()) == 1


def layers_of_image(content: StoreContent, name: str) -> set[str]:
    """The IDs of the layers that the image of that name has."""
    image_of = content.images[content.names[name]]
    return {layer.layer_id for layer in layers_of(content, image_of)}


def test_a_piece_outlives_its_layers_only_for_what_still_names_it() -> None:
    """A container made on a layer that has been laid out otherwise since names its old pieces."""
    one = image("1", "ab", flat=False)
    first = plan(StoreContent(), {"r/x:1": one}, now=1000).content
    base = one.layers[0].layer_id
    moved = replace(one, layers=tuple(replace(e, files=f"/s{e.files}") for e in one.layers))
    names = {parse_repository_path("r/x:1"): one.source_id.hex}
    candidates = {one.source_id.hex: candidate_of(moved, view_of(moved, DEFAULT_POLICY), "/s/r")}

    def after(now: int, needed: tuple[str, ...] = ()) -> StoreContent:
        retention = Retention(now, needed=needed)
        return make_plan(second, names, {}, str(DEFAULT_POLICY), retention).content

    second = make_plan(
        first, names, candidates, str(DEFAULT_POLICY), Retention(2000), gone={"/r"}
    ).content
    old = set(first.layers[base].lowers or ()) - set(second.layers[base].lowers or ())
    assert old and old <= second.pieces()
    assert old <= after(2000 + GRACE - 1).pieces()
    assert old.isdisjoint(after(2000 + GRACE).pieces())
    assert old <= after(2000 + GRACE, tuple(old)).pieces()


def test_an_image_that_leaves_takes_only_its_own_top_along() -> None:
    """Two configs over the same layers, each with a merged root of its own."""
    one, two = image("1", "ab"), image("2", "ab")
    first = plan(StoreContent(), {"r/x:1": one, "r/x:2": two}).content
    assert len({stored.top_layer for stored in first.images.values()}) == 2
    assert not orphaned_views(first, {one.source_id.hex})
    second = plan(first, {"r/x:2": two}, new="none", now=2000).content
    assert layers_of_image(second, "r/x:2") == layers_of_image(first, "r/x:2")
    assert all(second.layers[each].retired is None for each in layers_of_image(second, "r/x:2"))


def test_a_wanted_image_that_was_never_resolved_has_no_name() -> None:
    one = image("1", "ab")
    result = make_plan(
        StoreContent(), {ImageName("r", "x", "1"): one.source_id.hex}, {}, "p", Retention(1)
    )
    assert not result.content.names and not result.content.images


def test_two_sources_with_one_synthesised_config_are_one_image() -> None:
    one = image("1", "ab")
    other = replace(one, source_id=Digest("e" * 64))
    content = plan(StoreContent(), {"r/x:1": one, "r/x:2": other}).content
    assert len(content.images) == 1
    assert set(content.names) == {"r/x:1", "r/x:2"}


def test_a_layer_of_layout_4_stays_as_it_is_while_something_stands_on_it() -> None:
    """What stands on it names its directory, and podman 6 its ID."""
    one = image("1", "ab")
    base, chain_top = (layer.layer_id for layer in one.layers)
    old_base = StoredLayer(
        base,
        f"{base}-{'0' * 16}",
        None,
        100,
        diff_id=one.layers[0].diff_id,
        blob=one.layers[0].blob.digest,
        blob_size=10,
        compression=2,
        repository="/r",
        lowers=None,
    )
    old_top = StoredLayer(
        chain_top,
        f"{chain_top}-{'1' * 16}",
        base,
        100,
        shows=one.source_id.hex,
        merged=True,
        alone=True,
        repository="/r",
        lowers=None,
    )
    spacer = StoredLayer(SPACER_ID, f"{SPACER_ID}-{'2' * 16}", None, 0, lowers=None)
    layers = {each.layer_id: each for each in (old_base, old_top, spacer)}
    made = candidate_of(one, view_of(one, DEFAULT_POLICY), "/r")
    stored = replace(made.stored, top_layer=chain_top, published=("r/x:1",))
    old = StoreContent(
        "4 auto base kernel", {stored.image_id: stored}, layers, {"r/x:1": stored.image_id}
    )
    names = {parse_repository_path("r/x:1"): one.source_id.hex}
    candidates = {one.source_id.hex: made}

    def laid_out(needed: tuple[str, ...], now: int = 2000) -> StoreContent:
        retention = Retention(now, needed=needed)
        return make_plan(old, names, candidates, str(DEFAULT_POLICY), retention).content

    first = laid_out(())
    assert first.layers[base] == replace(
        old_base, retired=2000, diff_id=one.layers[0].diff_id, blob=one.layers[0].blob.digest,
        blob_size=10, compression=2,
    ), "pulls find it as it is"  # fmt: skip
    assert first.layers[chain_top].entry == old_top.entry
    assert {first.layers[each].retired for each in (chain_top, SPACER_ID)} == {2000}
    top = first.layers[first.images[stored.image_id].top_layer or ""]
    assert top.lowers and top.parent == base and top.layer_id != chain_top
    source = {one.source_id.hex}

    def later(now: int, needed: tuple[str, ...] = ()) -> tuple[set[str], StoreContent]:
        retention = Retention(now, needed=needed)
        freed = freed_images(first, source, retention)
        found = {key: each for key, each in candidates.items() if key in freed}
        return freed, make_plan(first, names, found, first.policy, retention).content

    assert later(2000 + GRACE - 1) == (set(), first)
    freed, content = later(2000 + GRACE, (base,))
    assert not freed and content.layers[base] == first.layers[base]
    assert chain_top not in content.layers
    freed, content = later(2000 + GRACE)
    assert freed == source and content.layers[base].lowers
    assert {layer.lowers is None for layer in content.layers.values()} == {False}


def test_a_base_known_to_delete_is_translated_for_all() -> None:
    unknown = image("1", "ab")
    known = looked_at(image("2", "ac", flat=False), a=_DELETES[0])
    base = unknown.layers[0].layer_id
    for images in ({"r/x:1": unknown, "r/y:1": known}, {"r/y:1": known, "r/x:1": unknown}):
        result = plan(StoreContent(), images)
        (directory,) = (each for each in result.layers if each.layer_id == base)
        parts = {piece.piece_id: piece.part for piece in result.pieces}
        shown = [parts[each] for each in directory.lowers]
        assert [type(part) for part in shown] == [LocalPart, LocalPart, Link, LocalPart]
        assert result.content.layers[base].diff_id is None
        again = plan(result.content, images, new=next(iter(images)))
        assert again.content.layers[base] == result.content.layers[base]


@pytest.mark.parametrize("first", ["r/short:1", "r/long:1", None])
def test_a_layer_that_is_one_image_s_top_is_itself_for_all_others(first: str | None) -> None:
    """Whichever of two images came first, one of which has a merged root."""
    policy = Policy(reuse=Reuse.ALL)
    long = looked_at(image("2", "abc", flat=False))
    images = {
        "r/short:1": replace(looked_at(image("1", "ab")), layers=long.layers[:2]),
        "r/long:1": long,
    }
    content = StoreContent()
    if first is not None:
        content = plan(content, {first: images[first]}, policy=policy).content
    result = plan(content, images, policy=policy)
    middle = result.content.layers[long.layers[1].layer_id]
    assert not middle.merged and middle.shows is None
    again = plan(result.content, images, new="none", policy=policy)
    assert again.content == result.content


def looked_at(found: ResolvedImage, **markers: Markers) -> ResolvedImage:
    """``found``, with what its layers, by letter, delete: nothing unless it is given."""
    known = {f"/r/.layers/{letter}": each for letter, each in markers.items()}
    layers = [
        replace(layer, markers=known.get(layer.files or "", Markers())) for layer in found.layers
    ]
    return replace(found, layers=tuple(layers))


_DELETES = [
    Markers(files=(".wh.x",), hidden=("x",), directories={"": DirectoryFacts(0o755, 0, 0, 0)}),
    Markers(native=True),
    Markers(unread=("root",)),
]


@pytest.mark.parametrize("overlay", Overlay)
@pytest.mark.parametrize("reuse", Reuse)
@pytest.mark.parametrize("markers", _DELETES)
def test_what_may_delete_is_never_advertised(
    overlay: Overlay, reuse: Reuse, markers: Markers
) -> None:
    """Read again by whatever podman mounts with, it may lose what it deletes."""
    policy = Policy(View.LAYERS, reuse, overlay)
    view = view_of(looked_at(image("1", "abc"), b=markers), policy)
    found = {
        stored.diff_id for stored, _ in (*view.layers, *view.beside) if stored.diff_id is not None
    }
    wanted = {Reuse.BASE: "a", Reuse.ALL: "ac", Reuse.NONE: ""}[reuse]
    assert found == {Digest.of(letter.encode()) for letter in wanted}


def test_what_stands_beside_an_image_is_found_by_chain_and_by_digest() -> None:
    """A layer above others has no digest to be found by: read again, where the same file lies
    below, it would come without that. Its twin, a base of its own, comes whole."""
    policy = Policy(reuse=Reuse.ALL)
    shown = looked_at(image("1", "abc"))
    view = view_of(shown, policy)
    top, _ = view.layers[-1]
    beside = {stored.layer_id: (stored, directory) for stored, directory in view.beside}
    assert top.diff_id is None and top.twin == shown.layers[2].layer_id
    for number, letter in ((1, "b"), (2, "c")):
        layer, directory = beside[shown.layers[number].layer_id]
        assert layer.parent == shown.layers[number - 1].layer_id and layer.diff_id is None
        files = [Link(f"/r/.layers/{each}") for each in reversed("abc"[: number + 1])]
        assert below(view, directory)[1:] == files
        assert layer.twin is not None
        twin, alone = beside[layer.twin]
        assert twin.diff_id == Digest.of(letter.encode()) and twin.layer_id == twin.diff_id.hex
        assert (twin.parent, twin.blob) == (None, Digest.of(f"blob {letter}".encode()))
        assert below(view, alone)[1:] == [Link(f"/r/.layers/{letter}")]


def twins(view: ImageView) -> list[str]:
    """The layers beside an image that are bases of their own."""
    return [stored.layer_id for stored, _ in view.beside if stored.parent is None]


@pytest.mark.parametrize(
    ("found", "policy"),
    [
        (looked_at(image("1", "ab")), Policy(reuse=Reuse.BASE)),
        (looked_at(image("1", "ab")), Policy(reuse=Reuse.NONE)),
        (looked_at(image("1", "ab", files=False)), Policy(reuse=Reuse.ALL)),
        (image("1", "ab"), Policy(reuse=Reuse.ALL)),
        (looked_at(image("1", "ab"), b=_DELETES[0]), Policy(reuse=Reuse.ALL)),
        (looked_at(image("1", "aa")), Policy(reuse=Reuse.ALL)),
        (looked_at(image("1", "a", flat=False)), Policy(reuse=Reuse.ALL)),
    ],
)
def test_no_twin_where_none_may_or_need_be_found(found: ResolvedImage, policy: Policy) -> None:
    assert not twins(view_of(found, policy))


def test_a_twin_stays_with_its_layer_and_goes_with_it() -> None:
    policy = Policy(reuse=Reuse.ALL)
    images = {f"r/x:{n}": looked_at(image(n, f"a{letter}")) for n, letter in ("1b", "2c")}
    both = [Digest.of(letter).hex for letter in (b"b", b"c")]
    first = plan(StoreContent(), images, policy=policy).content
    assert [first.layers[twin].retired for twin in both] == [None, None]
    assert plan(first, images, new="none", policy=policy).content == first
    second = plan(first, {"r/x:2": images["r/x:2"]}, now=2000, new="none", policy=policy).content
    assert [second.layers[twin].retired for twin in both] == [2000, None]
