# SPDX-License-Identifier: Apache-2.0
"""Images that come back, and merged roots and layers that come later."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from podman_cvmfs.plan.retirement import GRACE
from podman_cvmfs.repository.offers import Offer
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse
from podman_cvmfs.store.records import chain_of
from podman_cvmfs.sync.complete import Completed, resolve_all
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.verify.store import verify
from tests.support.many import make_repository
from tests.support.shown import lowers, mounted, nested
from tests.support.world import World, app


def test_an_image_that_returns_stands_on_its_layers_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the layer below its top was the top of another, which has a merged root."""
    repository = nested(world)
    world.sync_from(repository, without="*app0:*")
    world.sync_from(repository, without="*app1:*")
    world.sync_from(repository)
    below = mounted(world, 1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    world.sync_from(repository)
    assert mounted(world, 1) == below
    assert not verify(world.store.path).errors


def test_what_stands_in_for_no_layer_is_not_written(world: World) -> None:
    """Nothing would lead to it, and the next sync would find something to do."""
    repository = nested(world, 3)
    world.sync_from(repository)
    assert not world.sync_from(repository).changed
    assert not any(layer.retired for layer in world.content.layers.values())


def test_an_image_without_layers(world: World) -> None:
    repository = make_repository(world.root / "empty", 1, layers=0, shared=0)
    for overlay in Overlay:
        assert not world.sync_from(repository, policy=Policy(overlay=overlay)).failed


def test_an_image_that_returns_has_its_twin_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container needed the top layer alone, so the twin went when its grace was over."""
    repository = world.make("repository", 2)
    policy = Policy(reuse=Reuse.ALL)
    world.sync_from(repository, policy=policy)
    advertised, top = world.advertised(), world.layers(1)[0]
    chain = {layer.layer_id for layer in chain_of(world.content, top.layer_id)}
    world.sync_from(repository, policy=policy, without="*app1:*")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    monkeypatch.setattr("podman_cvmfs.sync.run.needed_layers", lambda *_: chain)
    world.sync_from(repository, policy=policy, without="*app1:*")
    assert top.layer_id in world.content.layers and top.twin not in world.content.layers
    world.sync_from(repository, policy=policy)
    assert {layer.layer_id for layer in world.advertised()} == {
        layer.layer_id for layer in advertised
    }
    assert not verify(world.store.path).errors
    assert not world.sync_from(repository, policy=policy).changed


@pytest.mark.parametrize("reuse", list(Reuse))
def test_a_merged_root_that_comes_later_is_shown(world: World, reuse: Reuse) -> None:
    """DUCC publishes layers and manifest first, merged root and link one transaction later."""
    repository = world.make("repository", 2)
    policy = Policy(reuse=reuse)
    link = repository / app(1)
    target = link.readlink()
    flat = (link.parent / target).resolve()
    link.unlink()
    flat.rename(world.root / "flat")
    world.sync_from(repository, policy=policy)
    assert world.stored(app(1)).view == "layers"
    link.symlink_to(target)
    assert not world.sync_from(repository, policy=policy).changed, "the link came first"
    (world.root / "flat").rename(flat)
    world.sync_from(repository, policy=policy)
    assert world.stored(app(1)).view == "flat" and world.layers(1)[0].merged
    assert not verify(world.store.path).errors
    assert not world.sync_from(repository, policy=policy).changed


@pytest.mark.parametrize("reuse", list(Reuse))
def test_layers_that_come_later_are_found_by_pulls(world: World, reuse: Reuse) -> None:
    repository = world.make("repository", 2)
    policy = Policy(reuse=reuse)
    (repository / ".layers").rename(world.root / "layers")
    (repository / ".layers").mkdir()
    world.sync_from(repository, policy=policy)
    assert not world.sync_from(repository, policy=policy).changed and not world.advertised()
    (repository / ".layers").rmdir()
    (world.root / "layers").rename(repository / ".layers")
    assert world.sync_from(repository, policy=policy).changed == (reuse is not Reuse.NONE)
    assert len(world.advertised()) == {Reuse.BASE: 1, Reuse.ALL: 5, Reuse.NONE: 0}[reuse]
    assert not verify(world.store.path).errors
    assert not world.sync_from(repository, policy=policy).changed


def test_a_merged_root_that_comes_later_takes_nothing_from_what_stands_on_the_layer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = nested(world)
    link = repository / app(0)
    target = link.readlink()
    flat = (link.parent / target).resolve()
    link.unlink()
    flat.rename(world.root / "flat")
    world.sync_from(repository)
    below = mounted(world, 1)
    (world.root / "flat").rename(flat)
    link.symlink_to(target)
    assert world.sync_from(repository).changed
    assert world.layers(0)[0].merged and mounted(world, 1) == below
    top = world.layers(1)[0].layer_id
    world.sync_from(repository, without="*app1:*")
    assert world.layers(0)[0].merged and lowers(world, top) == below
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * GRACE)
    for _ in range(2):
        world.sync_from(repository, without="*app1:*")
    assert world.layers(0)[0].merged and top not in world.content.layers
    assert not world.sync_from(repository, without="*app1:*").changed
    assert not verify(world.store.path).errors


@pytest.mark.parametrize("reuse", list(Reuse))
def test_what_can_only_be_shown_by_its_layers_is_not_resolved_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch, reuse: Reuse
) -> None:
    """An image with a merged root has the same layers as one without, or lies below another whose
    lower layers pulls may find."""
    policy = Policy(reuse=reuse)
    same = world.make("same", 3, shared=3)
    shutil.rmtree((same / app(0)).resolve())
    (same / app(0)).unlink()
    below = make_repository(world.root / "below", 1, layers=2, shared=2)
    other = make_repository(world.root / "more", 2, layers=3, shared=2)
    for place in (other, other / ".metadata"):
        (place / app(0)).rename(world.root / f"{place.name}-app0")
    shutil.copytree(other, below, symlinks=True, dirs_exist_ok=True)
    resolved: list[str] = []

    def noting(request: SyncRequest, todo: dict[str, list[Offer]]) -> object:
        resolved.extend(todo)
        return resolve_all(request, todo)

    monkeypatch.setattr("podman_cvmfs.sync.run.resolve_all", noting)
    for repository in (same, below):
        world.sync_from(repository, policy=policy)
        world.sync_from(repository, policy=policy)
        resolved.clear()
        assert not world.sync_from(repository, policy=policy).changed
        assert not resolved


@pytest.mark.parametrize("reuse", [Reuse.BASE, Reuse.ALL])
def test_layers_of_a_stranger_are_not_for_pulls(
    world: World, monkeypatch: pytest.MonkeyPatch, reuse: Reuse
) -> None:
    """Some files are closed to the user, so podman couldn't commit what stands on the layers."""
    repository = world.make("repository", 3)
    policy = Policy(reuse=reuse)
    world.sync_from(repository, policy=policy)
    assert world.advertised()
    monkeypatch.setattr("podman_cvmfs.sync.run.strangers_among", frozenset)
    assert world.sync_from(repository, policy=policy).images == 3
    assert not world.advertised()
    listed = [layer for layer in world.content.layers.values() if layer.retired is None]
    assert all(layer.shows is not None for layer in listed if layer.repository)
    todo: list[str] = []

    def count(request: SyncRequest, offers: dict[str, list[Offer]]) -> Completed:
        todo.extend(offers)
        return resolve_all(request, offers)

    monkeypatch.setattr("podman_cvmfs.sync.run.resolve_all", count)
    assert not world.sync_from(repository, policy=policy).changed
    assert not todo, "nothing is resolved again"
    assert not verify(world.store.path).errors


def test_a_store_of_the_layout_before_gets_new_pieces(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands on the old ones goes on to find them."""
    repository = world.make("repository", 2)
    with monkeypatch.context() as before:
        before.setattr("podman_cvmfs.resolve.whole.STICKY", ("tmp",))
        root = flat_of(repository, app(1))
        (root / "run/lock").mkdir(parents=True)
        for path in (root / "run", root / "run/lock"):
            path.chmod(0o777)
        world.sync_from(repository, policy=Policy(layout="5"))
    assert not verify(world.store.path).errors, "it is of the same form"
    old = world.layers(1)[0]
    world.sync_from(repository)
    new = world.layers(1)[0]
    assert new.lowers != old.lowers and world.content.policy == str(Policy())
    kept = world.content.layers[old.layer_id]
    assert kept.retired is not None and kept.lowers == old.lowers
    assert not verify(world.store.path).errors
    assert not world.sync_from(repository).changed


def flat_of(repository: Path, name: str) -> Path:
    """The merged root to which a public link leads."""
    return (repository / name).resolve()
