# SPDX-License-Identifier: Apache-2.0
"""Views of images and plans for stores: pure functions, so plain tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.layer_choice import orphaned_views
from podman_cvmfs.markers import DirectoryFacts, Markers
from podman_cvmfs.oci import Descriptor, Digest, layer_ids, parse_config
from podman_cvmfs.plan import Plan, candidate_of, make_plan
from podman_cvmfs.policy import DEFAULT_POLICY, Overlay, Policy, Reuse, View
from podman_cvmfs.reference import ImageName, assign_names, parse_repository_path
from podman_cvmfs.resolve import FlatRoot, Layer, ResolvedImage
from podman_cvmfs.retirement import GRACE, Retention, is_retired, retired_since
from podman_cvmfs.skeleton import SkeletonDirectory
from podman_cvmfs.store.json_files import images_json, layer_json, layers_json
from podman_cvmfs.store.records import Link, LocalPart, StoreContent
from podman_cvmfs.view import SPACER, view_of

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


def test_flat_view_shows_one_directory_and_counts_every_layer() -> None:
    view = view_of(image("x", "abcd"), Policy())
    assert view.kind == "flat"
    records = [stored for stored, _ in view.layers]
    directories = [directory for _, directory in view.layers]
    assert len(records) == 4, "podman history wants as many layers as the config tells of"
    assert [record.parent for record in records] == [None, *(r.layer_id for r in records[:-1])]
    assert not any(directory.lowers for directory in directories)
    assert sum(record.diff_size for record in records) == 400
    assert directories[0].parts == (Link("/r/.layers/a"),)
    local, link = directories[-1].parts
    assert isinstance(local, LocalPart) and isinstance(link, Link)
    assert [(node.path, node.mode) for node in local.nodes if not node.is_whiteout] == [
        ("", 0o555),
        ("tmp", 0o1777),
    ]
    genuine = layer_ids([layer.diff_id for layer in image("x", "abcd").layers])
    assert [r.layer_id in genuine for r in records] == [True, False, False, True]
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


def test_no_merged_root_is_taken_for_less_than_it_is() -> None:
    """A layer without parent and lower is, for podman, what its ``diff`` holds."""
    found = image("x", "a")
    found = replace(found, layers=(replace(found.layers[0], files=None),))
    view = view_of(found, DEFAULT_POLICY)
    assert [directory.lowers for _, directory in view.layers] == [(SPACER.layer_id,)]


def test_images_on_one_base_share_all_but_the_top() -> None:
    content = plan(StoreContent(), {"r/x:1": image("1", "abc"), "r/x:2": image("2", "abd")}).content
    assert len(content.layers) == 5, "and the spacer"


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
    gone = set(layer_ids([Digest.of(b"a"), Digest.of(b"b")]))
    assert {layer_id for layer_id, since in retired.items() if since == 2000} == gone
    assert list(second.content.retired_entries.values()) == [2000]  # the image's own files
    unchanged = plan(second.content, wanted, new="none", now=2000 + GRACE - 1).content
    assert unchanged == second.content
    last = plan(second.content, wanted, new="none", now=2000 + GRACE).content
    assert set(last.layers) == set(first.layers) - gone
    assert not last.retired_entries


def test_grace_and_what_is_needed_beyond_it() -> None:
    wanted = {"r/x:1": image("1", "ab"), "r/y:1": image("2", "cd")}
    first = plan(StoreContent(), wanted).content
    (top,) = layer_ids([Digest.of(b"a"), Digest.of(b"b")])[-1:]
    names = {parse_repository_path("r/y:1"): wanted["r/y:1"].source_id.hex}

    def layers_after(grace: int, needed: tuple[str, ...] = ()) -> int:
        layers = make_plan(first, names, {}, "p", Retention(2000, grace, needed)).content.layers
        return len(set(layers) - {SPACER.layer_id})

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


def test_one_top_layer_shown_by_the_root_of_an_image_that_leaves() -> None:
    """Two configs over the same layers share the top layer, so one merged root serves both."""
    one, two = image("1", "ab"), image("2", "ab")
    first = plan(StoreContent(), {"r/x:1": one, "r/x:2": two}).content
    (top,) = {stored.top_layer for stored in first.images.values()}
    assert top is not None
    served_by = first.layers[top].shows
    stays = two if served_by == one.source_id.hex else one
    leaves = one if stays is two else two
    assert orphaned_views(first, {stays.source_id.hex}) == {stays.source_id.hex}
    assert not orphaned_views(first, {stays.source_id.hex, leaves.source_id.hex})
    second = plan(first, {"r/x:9": stays}, now=2000).content
    assert second.layers[top].shows == stays.source_id.hex
    assert second.layers[top].entry != first.layers[top].entry
    assert first.layers[top].entry in second.retired_entries


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


def test_a_base_shown_by_the_root_of_an_image_that_leaves_is_laid_out_anew() -> None:
    """Not only images of that one layer stand on it."""
    skeleton = (SkeletonDirectory("", 0o755, True),)
    gone = replace(image("1", "a"), skeleton=skeleton)
    stays = replace(image("2", "ab", flat=False), skeleton=skeleton)
    content = plan(StoreContent(), {"r/x:1": gone, "r/y:1": stays}).content
    base = stays.layers[0].layer_id
    assert content.layers[base].shows == gone.source_id.hex
    assert orphaned_views(content, {stays.source_id.hex}) == {stays.source_id.hex}


def test_a_skeleton_stays_when_another_image_stands_on_the_layer() -> None:
    """Without it rootless podman couldn't start the image."""
    policy = Policy(reuse=Reuse.ALL)
    skeleton = (SkeletonDirectory("", 0o755, True),)
    short, long = (
        replace(looked_at(image(diffs, diffs)), skeleton=skeleton) for diffs in ("ab", "abc")
    )
    result = plan(StoreContent(), {"r/x:1": short, "r/y:1": long}, policy=policy)
    for found in (short, long):
        top = result.content.layers[result.content.images[found.config.digest.hex].top_layer or ""]
        assert top.merged and top.shows == found.source_id.hex


def test_a_base_known_to_delete_is_translated_for_all() -> None:
    unknown = image("1", "ab")
    known = looked_at(image("2", "ac", flat=False), a=_DELETES[0])
    base = unknown.layers[0].layer_id
    for images in ({"r/x:1": unknown, "r/y:1": known}, {"r/y:1": known, "r/x:1": unknown}):
        result = plan(StoreContent(), images)
        (directory,) = (each for each in result.layers if each.layer_id == base)
        assert len(directory.parts) == 3
        assert result.content.layers[base].diff_id is None
        again = plan(result.content, images, new=next(iter(images)))
        assert again.content.layers[base] == result.content.layers[base]


@pytest.mark.parametrize("first", ["r/short:1", "r/long:1", None])
def test_a_merged_root_is_never_mounted_above_the_layers_it_holds(first: str | None) -> None:
    """The top of one image lies below the top of another: there it must be exact, whichever of
    them came first, for a merged root lets lower layers show what it deletes."""
    policy = Policy(reuse=Reuse.ALL)
    marked = [replace(layer, markers=Markers()) for layer in image("2", "abc").layers]
    images = {
        "r/short:1": replace(image("1", "ab"), layers=tuple(marked[:2])),
        "r/long:1": replace(image("2", "abc", flat=False), layers=tuple(marked)),
    }
    content = StoreContent()
    if first is not None:
        content = plan(content, {first: images[first]}, policy=policy).content
    result = plan(content, images, policy=policy)
    below = result.content.layers[marked[1].layer_id]
    assert not below.merged and below.diff_id == marked[1].diff_id
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
    advertised = [stored.diff_id is not None for stored, _ in view.layers]
    assert (
        advertised
        == {
            Reuse.BASE: [True, False, False],
            Reuse.ALL: [True, False, True],
            Reuse.NONE: [False, False, False],
        }[reuse]
    )
    assert view.twin is None


def test_a_layer_below_a_merged_root_is_found_as_its_twin() -> None:
    policy = Policy(reuse=Reuse.ALL)
    view = view_of(looked_at(image("1", "ab")), policy)
    top, _ = view.layers[-1]
    assert view.twin is not None and top.diff_id is None
    twin, directory = view.twin
    assert twin.diff_id == Digest.of(b"b")
    assert top.twin == twin.layer_id == twin.diff_id.hex
    assert (twin.parent, twin.blob) == (None, Digest.of(b"blob b"))
    assert directory.parts == (Link("/r/.layers/b"),) and not directory.lowers


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
    assert view_of(found, policy).twin is None


def test_a_twin_stays_with_its_layer_and_goes_with_it() -> None:
    policy = Policy(reuse=Reuse.ALL)
    images = {f"r/x:{n}": looked_at(image(n, f"a{letter}")) for n, letter in ("1b", "2c")}
    twins = [Digest.of(letter).hex for letter in (b"b", b"c")]
    first = plan(StoreContent(), images, policy=policy).content
    assert [first.layers[twin].retired for twin in twins] == [None, None]
    assert plan(first, images, new="none", policy=policy).content == first
    second = plan(first, {"r/x:2": images["r/x:2"]}, now=2000, new="none", policy=policy).content
    assert [second.layers[twin].retired for twin in twins] == [2000, None]
