# SPDX-License-Identifier: Apache-2.0
"""Stores that are laid out anew under another policy, or for other bases."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.plan.retirement import GRACE, is_retired
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Overlay, Policy, Reuse, View
from podman_cvmfs.store.records import chain_of
from podman_cvmfs.verify.store import verify
from tests.support.many import make_repository
from tests.support.required import required
from tests.support.shown import hex_of, hides_markers, lowers, nested, whiteout
from tests.support.world import World, app

BY_LAYERS = Policy(view=View.LAYERS)
ALL = Policy(View.LAYERS, Reuse.ALL)

# ---------------------------------------------------------------------- another policy


def test_what_fails_when_the_policy_changes_is_laid_out_anew_later(world: World) -> None:
    repository = world.make("repository", 2, shared=2)
    whiteout(repository, "blob 1")
    fuse = Policy(View.LAYERS, Reuse.BASE, Overlay.FUSE)
    world.sync_from(repository, policy=fuse)
    assert not any(hides_markers(world, world.layers(number)[0]) for number in (0, 1))
    manifest = repository / ".metadata" / app(1) / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    report = world.sync_from(repository, policy=BY_LAYERS)
    assert set(report.failed) == {app(1)}
    assert (world.stored(app(0)).outdated, world.stored(app(1)).outdated) == (False, True)
    # The layer they share is right for the image that could be laid out anew.
    assert hides_markers(world, world.layers(0)[0])
    assert world.sync_from(repository, policy=BY_LAYERS).failed, "tried again each time"
    manifest.write_text(text)
    assert world.sync_from(repository, policy=BY_LAYERS).changed
    assert not world.stored(app(1)).outdated and hides_markers(world, world.layers(1)[0])
    assert not world.sync_from(repository, policy=BY_LAYERS).changed


def test_an_outdated_image_s_layers_are_found_by_no_pull(world: World) -> None:
    repository = world.make("repository", 1)
    world.sync_from(repository, policy=ALL)
    assert world.advertised()
    (repository / ".metadata" / app(0) / "manifest.json").unlink()
    assert world.sync_from(repository, policy=Policy(View.LAYERS, Reuse.NONE)).failed
    assert not world.advertised()


def test_an_image_that_returns_after_another_policy_is_laid_out_anew(world: World) -> None:
    repository = world.make("repository", 2)
    world.sync_from(repository, policy=ALL)
    world.sync_from(repository, policy=ALL, without="*app1:*")
    flat = Policy(View.FLAT, Reuse.BASE)
    world.sync_from(repository, policy=flat, without="*app1:*")
    retired = [image for image in world.content.images.values() if is_retired(image)]
    assert [image.outdated for image in retired] == [True]
    world.sync_from(repository, policy=flat)
    assert (world.stored(app(1)).view, world.stored(app(1)).outdated) == ("flat", False)


def test_what_is_retired_is_found_by_no_pull_after_another_policy(world: World) -> None:
    repository = world.make("repository", 2)
    world.sync_from(repository, policy=ALL)
    world.sync_from(repository, policy=ALL, without="*app1:*")
    assert any(layer.retired for layer in world.advertised())
    world.sync_from(repository, policy=Policy(View.FLAT, Reuse.BASE), without="*app1:*")
    assert any(layer.retired for layer in world.content.layers.values())
    assert not any(layer.retired for layer in world.advertised())
    world.sync_from(repository, policy=Policy(View.FLAT, Reuse.NONE), without="*app1:*")
    assert not world.advertised()


@pytest.mark.parametrize("overlay", list(Overlay))
@pytest.mark.parametrize("reuse", list(Reuse))
def test_what_stands_on_a_layer_sees_it_after_another_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, reuse: Reuse, overlay: Overlay
) -> None:
    """The layer is the top of another image, which is shown by its merged root by then; a user has
    tagged what has left the store, so nothing else names the layers below."""
    repository = nested(world, 3)
    by_layers, flat = Policy(View.LAYERS, reuse), Policy(View.FLAT, reuse, overlay)
    world.sync_from(repository, policy=by_layers)
    top = world.layers(1)[0].layer_id
    below = lowers(world, top)
    world.sync_from(repository, policy=by_layers, without="*app1:*")
    world.sync_from(repository, policy=flat, without="*app1:*")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    monkeypatch.setattr(
        "podman_cvmfs.sync.run.needed_layers",
        lambda content, *_: {layer.layer_id for layer in chain_of(content, top)},
    )
    for _ in range(2):
        world.sync_from(repository, policy=flat, without="*app1:*")
        assert not verify(world.store.path).errors
    assert [len(places) for places in (below, lowers(world, top))] == [5, 5]
    assert lowers(world, top) == below
    assert [target.split("/")[1] for target in world.targets(0)][:1] == [".flat"]
    chain = chain_of(world.content, world.stored(app(0)).top_layer)
    assert sum(layer.diff_size for layer in chain) == 3 * 10240
    assert not world.sync_from(repository, policy=flat, without="*app1:*").changed


@pytest.mark.parametrize("reuse", list(Reuse))
def test_a_retired_image_may_have_the_same_layers_as_another(world: World, reuse: Reuse) -> None:
    repository = world.make("repository", 2, shared=3)
    by_layers, flat = Policy(View.LAYERS, reuse), Policy(View.FLAT, reuse)
    world.sync_from(repository, policy=by_layers)
    world.sync_from(repository, policy=by_layers, without="*app1:*")
    world.sync_from(repository, policy=flat, without="*app1:*")
    assert not verify(world.store.path).errors


# ---------------------------------------------------------------------- bases that delete


def test_for_fuse_overlayfs_bases_are_looked_at_before_they_are_advertised(world: World) -> None:
    """It would lose what they delete when a pull reads them again on another parent."""
    repository = world.make("repository", 1)
    fuse = Policy(overlay=Overlay.FUSE)
    world.sync_from(repository, policy=fuse)
    assert [layer.diff_id for layer in world.advertised()] == [Digest(hex_of("diff 0"))]
    other = World(world.root / "other")
    repository = other.make("repository", 1)
    whiteout(repository, "blob 0")
    other.sync_from(repository, policy=fuse)
    assert not other.advertised()


def test_an_image_of_one_layer_shown_by_it_has_no_marker_files(world: World) -> None:
    repository = make_repository(world.root / "one", 1, layers=1, shared=0)
    whiteout(repository, "blob (0, 0)")
    world.sync_from(repository, policy=BY_LAYERS)
    assert hides_markers(world, world.layers(0)[0])


@pytest.mark.parametrize("view", [View.AUTO, View.FLAT])
def test_an_image_whose_only_layer_has_lost_its_owners_is_shown_by_the_merged_root(
    world: World, view: View
) -> None:
    """DUCC's layers have lost them, and most clients claim all files."""
    if os.geteuid() != 0:
        required("only root gives files away")
    make_repository(world.repository, 1, layers=1, shared=0)
    blob = hex_of("blob (0, 0)")
    os.chown(world.repository / ".layers" / blob[:2] / blob / "layerfs", 999, 999)
    world.sync(policy=Policy(view))
    assert world.stored(app(0)).view == View.FLAT.value
    assert [each.diff_id for each in world.advertised()] == [Digest(hex_of("diff (0, 0)"))]
    world.sync(policy=BY_LAYERS)
    assert world.stored(app(0)).view == View.LAYERS.value
    other = World(world.root / "other")
    os.chown(world.repository / ".layers" / blob[:2] / blob / "layerfs", 0, 0)
    other.sync_from(world.repository, policy=Policy(view))
    assert other.stored(app(0)).view == View.LAYERS.value


# ---------------------------------------------------------------------- what has been removed


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, ALL])
def test_no_pull_finds_a_layer_whose_files_have_been_removed(world: World, policy: Policy) -> None:
    """The repository collects its garbage: what is pulled on such a layer couldn't be mounted."""
    repository = world.make("repository", 2, shared=0)
    world.sync_from(repository, policy=policy)
    advertised = len(world.advertised())
    (repository / app(1)).unlink()
    shutil.rmtree(repository / ".metadata" / app(1))
    world.sync_from(repository, policy=policy)
    assert len(world.advertised()) == advertised
    for number in range(3):
        blob = hex_of(f"blob {(1, number)}")
        shutil.rmtree(repository / ".layers" / blob[:2] / blob)
    world.sync_from(repository, policy=policy)
    assert len(world.advertised()) == advertised / 2
    assert not verify(world.store.path).errors
