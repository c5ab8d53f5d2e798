# SPDX-License-Identifier: Apache-2.0
"""Layers that pulls find: whole layers and twins, never a layer that may delete files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.plan.lay_out import ImageView, view_of
from podman_cvmfs.repository.whiteouts import Markers
from podman_cvmfs.resolve.image import ResolvedImage
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse, View
from podman_cvmfs.store.records import Link, LocalPart, StoreContent
from tests.support.resolved import DELETES, below, image, looked_at, plan


def test_a_base_known_to_delete_is_translated_for_all() -> None:
    unknown = image("1", "ab")
    known = looked_at(image("2", "ac", flat=False), a=DELETES[0])
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


@pytest.mark.parametrize("overlay", Overlay)
@pytest.mark.parametrize("reuse", Reuse)
@pytest.mark.parametrize("markers", DELETES)
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
        (looked_at(image("1", "ab"), b=DELETES[0]), Policy(reuse=Reuse.ALL)),
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
