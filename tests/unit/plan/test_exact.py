# SPDX-License-Identifier: Apache-2.0
"""The exact view: what its top layer mounts, and which images get it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.shown_layer import EMPTY
from podman_cvmfs.resolve.image import FileList, ResolvedImage
from podman_cvmfs.settings.policy import Change, Policy, Reuse, View
from podman_cvmfs.store.records import Data, Link, LocalPart, Metadata, StoreContent
from tests.support.resolved import HUB, below, image, looked_at, plan

EXACT = Policy(exact=True)


def listed(found: ResolvedImage, without: str = "") -> ResolvedImage:
    """``found`` with file lists of its layers, but for one."""
    layers = [
        layer
        if layer.files is None or layer.files.endswith(f"/{without}")
        else replace(layer, listed=FileList(f"list of {layer.files}", "/r"))
        for layer in found.layers
    ]
    return replace(found, layers=tuple(layers))


def splittable(found: ResolvedImage) -> ResolvedImage:
    """``found`` with file lists and tar-splits of its layers."""
    layers = [
        replace(layer, listed=FileList(f"list of {layer.files}", "/r", 1024))
        for layer in found.layers
    ]
    return replace(found, layers=tuple(layers))


def test_the_top_layer_mounts_metadata_of_all_layers_above_the_repository() -> None:
    view = view_of(listed(image("x", "abc")), EXACT)
    assert view.kind is View.EXACT
    stored, directory = view.layers[-1]
    assert directory.part == EMPTY
    assert below(view, directory) == [
        *(Metadata(f"/r/.layers/{each}", "/r", f"list of /r/.layers/{each}") for each in "cba"),
        Data("/r"),
    ]
    assert stored.exact and not stored.merged


def test_without_tar_splits_pulls_find_what_they_always_have() -> None:
    """Podman would read the layer again, and lose what the repository has lost."""
    exact, flat = view_of(listed(image("x", "ab")), EXACT), view_of(image("x", "ab"), EXACT)
    assert exact.layers[:-1] == flat.layers[:-1]
    for stored, directory in (*exact.layers[:-1], *exact.beside):
        assert not stored.exact
        assert all(isinstance(part, (Link, LocalPart)) for part in below(exact, directory))


def test_with_tar_splits_every_layer_is_there_and_exact() -> None:
    found = splittable(image("x", "abc"))
    view = view_of(found, EXACT)
    (last,) = view.beside
    ids = [layer.layer_id for layer in found.layers]
    assert [stored.layer_id for stored, _ in (*view.layers[:-1], last)] == ids
    for (stored, directory), layer in zip((*view.layers[:-1], last), found.layers):
        assert (stored.diff_id, stored.blob) == (layer.diff_id, layer.blob.digest)
        assert stored.diff_size == 1024 and stored.exact and stored.tar_split == layer.diff_id.hex
        assert directory.tar_split == (layer.diff_id.hex, layer.files)
    top = view.layers[-1][0]
    assert top.layer_id not in ids and top.twin == last[0].layer_id
    assert (top.diff_id, top.lowers, top.parent) == (
        found.layers[2].diff_id,
        last[0].lowers,
        ids[1],
    )
    parts = [len(below(view, directory)) for _, directory in view.layers]
    assert parts == [2, 3, 4], "each shows the layers up to it, and the repository"
    alone = view_of(splittable(image("x", "a")), EXACT)
    assert len(alone.layers) == len(alone.beside) == 1 and alone.layers[0][0].exact


@pytest.mark.parametrize("reuse", [Reuse.BASE, Reuse.ALL, Reuse.NONE])
def test_one_layer_without_a_tar_split_is_enough_to_hide_all(reuse: Reuse) -> None:
    policy = replace(EXACT, reuse=reuse)
    found = splittable(looked_at(image("x", "abc")))
    assert (view_of(found, policy) == view_of(listed(found), policy)) == (reuse is Reuse.NONE)
    last = replace(found.layers[2], listed=FileList("list", "/r"))
    view = view_of(replace(found, layers=(*found.layers[:2], last)), policy)
    assert not any(stored.tar_split for stored, _ in (*view.layers, *view.beside))


@pytest.mark.parametrize("labels", ["xy", "yx"])
def test_a_layer_with_its_tar_split_is_preferred(labels: str) -> None:
    """Whichever image is laid out first: one is exact, another has no list of its last layer."""
    exact, other = splittable(image(labels[0], "abc")), image(labels[1], "abd")
    wanted = {f"{HUB}/{each}:1": each_ for each, each_ in zip("xy", (exact, other))}
    content = plan(StoreContent(), wanted, policy=EXACT).content
    assert content.layers[exact.layers[0].layer_id].tar_split
    later = plan(StoreContent(), {f"{HUB}/y:1": other}, policy=EXACT).content
    assert not later.layers[exact.layers[0].layer_id].tar_split
    content = plan(later, wanted, policy=EXACT, new=f"{HUB}/x:1").content
    assert content.layers[exact.layers[0].layer_id].tar_split
    assert plan(content, wanted, policy=EXACT).content == content


def test_equal_layers_are_mounted_once() -> None:
    view = view_of(listed(image("x", "aba")), EXACT)
    parts = below(view, view.layers[-1][1])
    targets = [part.target for part in parts if isinstance(part, Metadata)]
    assert targets == ["/r/.layers/a", "/r/.layers/b"]


def test_images_share_the_metadata_of_their_layers() -> None:
    one, other = (view_of(listed(image(name, name)), EXACT) for name in ("abc", "abd"))
    shared = {piece.piece_id for piece in one.pieces} & {piece.piece_id for piece in other.pieces}
    assert (
        len([p for p in one.pieces if p.piece_id in shared and isinstance(p.part, Metadata)]) == 2
    )


def test_a_single_layer_is_exact_too() -> None:
    view = view_of(listed(image("x", "a")), EXACT)
    assert view.kind is View.EXACT and len(view.layers) == 1 and len(view.beside) == 1


@pytest.mark.parametrize("view", [View.AUTO, View.EXACT])
def test_without_all_lists_an_image_gets_another_view(view: View) -> None:
    policy = replace(EXACT, view=view)
    assert view_of(listed(image("x", "abc"), without="b"), policy).kind is View.FLAT
    assert view_of(image("x", "a"), policy).kind is View.LAYERS
    assert view_of(image("x", "ab", flat=False), policy).kind is View.LAYERS
    assert view_of(listed(image("x", "ab")), replace(policy, exact=False)).kind is View.FLAT


def test_a_lost_setting_changes_only_what_is_shown() -> None:
    """The layers that pulls find stay."""
    assert Change.between(str(EXACT), str(Policy())) is Change.OFFERED
    assert Policy.parse(str(EXACT)) == EXACT
    name = "registry.hub.docker.com/library/x:1"
    shown = listed(image("x", "ab"))
    first = plan(StoreContent(), {name: shown}, policy=EXACT)
    second = plan(first.content, {name: shown}, policy=Policy())
    (before,), (after,) = first.content.images.values(), second.content.images.values()
    assert (before.view, after.view) == ("exact", "flat")
    old = second.content.layers[before.top_layer or ""]
    assert old.retired == 1000, "containers keep it"
