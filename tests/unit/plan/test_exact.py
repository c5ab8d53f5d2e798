# SPDX-License-Identifier: Apache-2.0
"""The exact view: what its top layer mounts, and which images get it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.shown_layer import EMPTY
from podman_cvmfs.resolve.image import FileList, ResolvedImage
from podman_cvmfs.settings.policy import Change, Policy, View
from podman_cvmfs.store.records import Data, Link, LocalPart, Metadata, StoreContent
from tests.support.resolved import below, image, plan

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


def test_what_pulls_find_is_laid_out_as_ever() -> None:
    """Nobody knows whether podman will always mount and commit it as it does today."""
    exact, flat = view_of(listed(image("x", "ab")), EXACT), view_of(image("x", "ab"), EXACT)
    assert exact.layers[:-1] == flat.layers[:-1]
    for stored, directory in (*exact.layers[:-1], *exact.beside):
        assert not stored.exact
        assert all(isinstance(part, (Link, LocalPart)) for part in below(exact, directory))


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
