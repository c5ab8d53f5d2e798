# SPDX-License-Identifier: Apache-2.0
"""Views of images: pure functions, so plain tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.documents import Digest, layer_ids
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.shown_layer import EMPTY, image_layer_id
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import Policy, Reuse, View
from podman_cvmfs.store.json_files import layer_json
from podman_cvmfs.store.records import Link, LocalPart, Node, StoreContent
from tests.support.resolved import DELETES, below, image, looked_at, plan


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
    shown = looked_at(image("x", "abc"), b=DELETES[0])
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


def test_bundles_are_hidden_like_catalogues() -> None:
    skeleton = Skeleton(
        (Node("", mode=0o755), Node("etc", mode=0o755)), bundles=(".cvmfsbundle-x",)
    )
    found = replace(image("x", "ab"), skeleton=skeleton)
    view = view_of(found, Policy())
    local = below(view, view.layers[-1][1])[0]
    assert isinstance(local, LocalPart)
    hidden = [node.path for node in local.nodes if node.is_whiteout]
    assert hidden == [".cvmfsbundle-x", ".cvmfscatalog"]
