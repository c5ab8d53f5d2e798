# SPDX-License-Identifier: Apache-2.0
"""Repositories that are down, hidden, or gone while they are read."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from podman_cvmfs.usage.layer_users import User
from podman_cvmfs.usage.needs import Needs
from tests.support.many import REGISTRY, make_repository
from tests.support.trees import snapshot
from tests.support.world import World, app

pytestmark = pytest.mark.usefixtures("four_images")


T = TypeVar("T")


def test_part_of_the_repository_that_cannot_be_read_keeps_its_images(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync()
    before = snapshot(world.root / "store")
    real = Tree.entries

    def entries(tree: Tree, relative: str, required: bool = False) -> Iterator[os.DirEntry[str]]:
        if relative == f"{REGISTRY}/project":
            raise RepositoryError(f"can't read {relative}: Input/output error")
        return real(tree, relative, required)

    (world.repository / "quay.io").mkdir()
    (world.repository / "quay.io/new:1").symlink_to(os.readlink(world.link(1))[3:])
    monkeypatch.setattr(Tree, "entries", entries)
    report = world.sync()
    assert f"{REGISTRY}/project" in report.failed
    assert {app(n) for n in range(4)} <= set(world.content.names)
    assert (
        snapshot(world.root / "store/pool").items()
        >= {path[5:]: value for path, value in before.items() if path.startswith("pool/")}.items()
    )


def test_images_of_a_repository_that_is_down_can_be_hidden(world: World) -> None:
    world.sync()
    names = set(world.content.names)
    world.repository.rename(world.root / "away")
    before = snapshot(world.root / "store")
    with pytest.raises(RepositoryError, match="no such repository"):
        world.sync()
    assert snapshot(world.root / "store") == before
    report = world.sync(hide_outage=True)
    assert str(world.repository) in report.failed
    content = world.content
    assert not content.names and not content.layers, "pulls must not find what can't be read"
    assert content.retired_entries, "running containers may have it mounted"
    assert not world.sync(hide_outage=True).changed
    (world.root / "away").rename(world.repository)
    report = world.sync(hide_outage=True)
    assert set(report.added) == names and not report.failed


@pytest.mark.parametrize("blocked", [False, True])
def test_who_keeps_layers_of_a_hidden_repository_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, blocked: bool
) -> None:
    """podman takes such layers for those of an image that it pulls, and can't mount them."""
    world.sync()
    top = world.content.images[world.content.names[app(1)]].top_layer
    assert top is not None
    users = tuple(User("/graph", "container", f"c{number}") for number in range(7))
    needs = Needs({top: users}, ("/graph",), ("/x.conf",) if blocked else (), {"/x.conf": "bad"})
    monkeypatch.setattr("podman_cvmfs.sync.run.find_needs", lambda *_, **__: needs)
    assert not world.sync(hide_outage=True).warnings
    world.repository.rename(world.root / "away")
    for _ in range(2):
        *obstacles, warning = world.sync(hide_outage=True).warnings
        assert f"layers of {world.repository} stay in the store" in warning
        assert "container c0 in /graph" in warning and "c4 in /graph and 2 more" in warning
        assert len(obstacles) == blocked
        assert all("while /x.conf can't be read: bad" in each for each in obstacles)
        assert top in world.content.layers
    (world.root / "away").rename(world.repository)
    assert not world.sync(hide_outage=True).warnings


def test_a_repository_whose_path_is_no_text(world: World) -> None:
    world.repository = world.repository.rename(world.root / os.fsdecode(b"odd-\xff"))
    assert world.sync().changed
    assert {image.repository for image in world.content.images.values()} == {str(world.repository)}
    assert not world.sync().changed


def test_two_repositories_with_one_name(world: World, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other", 5, layers=2, shared=1)

    def sync_both(*repositories: Path) -> SyncReport:
        cache = BlobCache(str(world.root / "cache"))
        return sync(SyncRequest([str(each) for each in repositories], world.store, cache))

    sync_both(world.repository, other)
    images = {image.published[0]: image.repository for image in world.content.images.values()}
    assert images == {
        **{app(n): str(world.repository) for n in range(4)},
        app(4): str(other),
    }
    before = world.content.names
    report = sync_both(other, world.repository)
    assert set(report.moved) == {app(n) for n in range(4)}
    assert set(world.names) == set(before)
    shutil.rmtree(other)
    report = sync_both(other, world.repository)
    assert str(other) in report.failed
    assert set(world.names) == set(before), "a repository that is down keeps its images"


@pytest.mark.parametrize("after", range(12))
def test_a_repository_unmounted_while_it_is_listed_loses_no_image(
    world: World, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """From some call on everything is absent, as below an empty mount point."""
    world.sync()
    names = set(world.content.names)
    left = after

    def counted(call: Callable[..., T]) -> Callable[..., T]:
        def wrapper(path: str, *args: object, **kwargs: object) -> T:
            nonlocal left
            if str(world.repository) in str(path):
                left -= 1
                if left < 0:
                    raise FileNotFoundError(2, os.strerror(2), path)
            return call(path, *args, **kwargs)

        return wrapper

    for name in ("scandir", "readlink", "lstat", "open", "listdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    with contextlib.suppress(RepositoryError):
        world.sync()
    monkeypatch.undo()
    assert set(world.content.names) == names
