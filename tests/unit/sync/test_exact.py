# SPDX-License-Identifier: Apache-2.0
"""Syncs that show images exactly, by file lists."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.known import NoLists
from podman_cvmfs.oci.documents import Digest, parse_manifest
from podman_cvmfs.podman.composefs import NAIVE_DIFF_OFF
from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.store.layout import BLOB
from podman_cvmfs.store.metadata_size import metadata_bytes
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.run import sync
from podman_cvmfs.verify.repair import repair
from podman_cvmfs.verify.store import verify
from tests.support.required import required
from tests.support.world import World, app

EXACT = Policy(exact=True)
_ENTRIES = [
    Entry("", stat.S_IFDIR | 0o555),
    Entry("file", stat.S_IFREG | 0o4755, 7, 8, 5, backing="file"),
]


class _Lists(NoLists):
    """A list for each layer; ``missing`` layers have none, ``bad`` ones can't be written."""

    def __init__(self) -> None:
        self.missing: set[Digest] = set()
        self.bad: set[str] = set()
        self.read: list[str] = []

    def find(self, repository: str, layer: Digest) -> str | None:
        return None if layer in self.missing else layer.hex[::-1]

    def entries(self, digest: str) -> Iterable[Entry]:
        self.read.append(digest)
        if digest in self.bad:
            raise InputError("line 3 is no entry")
        return _ENTRIES


class _Exact:
    """A world whose syncs have lists."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lists = _Lists()
        self.store = Store(world.store.path, lists=self.lists)

    def sync(self, policy: Policy = EXACT, not_exact: str = "") -> SyncReport:
        request = self.world.request(policy=policy)
        return sync(replace(request, store=self.store, not_exact=not_exact))

    @property
    def views(self) -> list[str]:
        return [self.world.stored(app(number)).view for number in (0, 1)]

    def pieces(self, number: int) -> list[Path]:
        """The directories of the pieces with metadata of an image, nearest first."""
        top = self.world.layers(number)[0]
        return [piece.parent for piece in self.world.pieces(top)]


@pytest.fixture
def exact(world: World) -> _Exact:
    """Two images of three layers, two of which are common."""
    if os.geteuid() != 0:
        required("only root's stores are exact")
    world.make("repository", 2, shared=2)
    return _Exact(world)


def test_a_sync_writes_each_layer_s_metadata_once(exact: _Exact) -> None:
    exact.sync()
    assert exact.views == ["exact", "exact"]
    one, other = exact.pieces(0), exact.pieces(1)
    assert len(one) == 4 and one[1:] == other[1:], "two layers and the repository are common"
    assert len(exact.lists.read) == len(set(exact.lists.read)) == 4
    root = os.readlink(one[-1] / "diff")
    assert root == str(exact.world.repository)
    targets = [os.readlink(piece / "files") for piece in one[:-1]]
    assert all(target.startswith(f"{root}/.layers/") for target in targets)
    assert all((piece / BLOB).stat().st_size for piece in one)
    assert verify(exact.store.path).findings == ()
    assert not exact.sync().changed
    assert len(exact.lists.read) == 4


def test_podman_finds_an_exact_layer_by_an_absolute_link(exact: _Exact) -> None:
    """It looks for it from a copy of ``overlay`` in another place when it maps IDs."""
    exact.sync()
    for layer in exact.world.content.layers.values():
        link = os.readlink(f"{exact.store.path}/overlay/{layer.layer_id}")
        assert link.startswith("/") == layer.exact


def test_a_store_whose_podman_loses_the_setting_is_laid_out_anew(exact: _Exact) -> None:
    exact.sync()
    assert exact.sync(Policy()).changed
    assert exact.views == ["flat", "flat"]
    assert exact.sync().changed and exact.views == ["exact", "exact"]


def test_images_become_exact_when_their_layers_get_lists(exact: _Exact) -> None:
    exact.lists.missing = {_blobs(exact.world, 1)[-1]}
    exact.sync()
    assert exact.views == ["exact", "flat"]
    assert not exact.sync().changed
    exact.lists.missing = set()
    assert exact.sync().changed and exact.views == ["exact", "exact"]


def test_a_bad_list_costs_its_images_the_exact_view_only(exact: _Exact) -> None:
    exact.lists.bad = {_blobs(exact.world, 1)[-1].hex[::-1]}
    report = exact.sync()
    assert not report.failed and exact.views == ["exact", "flat"]
    (warning,) = report.warnings
    assert "line 3 is no entry" in warning and str(exact.world.repository) in warning
    assert verify(exact.store.path).findings == ()


def test_metadata_keep_within_their_budget(exact: _Exact) -> None:
    exact.sync()
    size = (exact.pieces(0)[0] / BLOB).stat().st_size
    assert (
        metadata_bytes(exact.store.path) == 4 * size + (exact.pieces(0)[-1] / BLOB).stat().st_size
    )
    exact.sync(Policy())
    shutil.rmtree(exact.store.path)
    exact.store = Store(exact.store.path, lists=exact.lists, budget=3 * size)
    report = exact.sync()
    assert not report.failed and sorted(exact.views) == ["exact", "flat"]
    (warning,) = report.warnings
    assert "1 layer can't be shown exactly" in warning and "lists_budget" in warning
    assert verify(exact.store.path).findings == ()


def test_whoever_asks_for_the_exact_view_is_told_why_not(exact: _Exact) -> None:
    asked = replace(EXACT, view=View.EXACT)
    exact.lists.missing = {_blobs(exact.world, 1)[-1]}
    (notice,) = exact.sync(asked).notices
    assert notice.startswith("1 of 2 images don't get the exact view")
    exact.lists.missing = set()
    assert not exact.sync(asked).notices
    refused = exact.sync(replace(asked, exact=False), "podman is too old")
    assert any("podman is too old" in notice for notice in refused.notices)
    lossy = exact.sync(replace(asked, exact=False), NAIVE_DIFF_OFF)
    assert any("run 'podman-cvmfs setup --exact'" in notice for notice in lossy.notices)
    assert exact.views == ["flat", "flat"]


@pytest.mark.parametrize("damage", ["blob", "files", "list", "link", "diff", "extra", "gone"])
def test_damage_is_found_and_repaired(exact: _Exact, damage: str) -> None:
    exact.sync()
    piece = exact.pieces(0)[0]
    if damage == "blob":
        with (piece / BLOB).open("r+b") as blob:
            blob.seek(5000)
            blob.write(b"?")
    elif damage == "files":
        (piece / "files").unlink()
        (piece / "files").symlink_to("/etc")
    elif damage == "diff":
        (piece / "diff/etc").mkdir()
    elif damage == "extra":
        (piece / "composefs-data/more").touch()
    elif damage == "gone":
        shutil.rmtree(piece / "composefs-data")
    else:
        (piece / damage).write_text("nonsense")
    verdict = verify(exact.store.path)
    assert verdict.errors
    repair(verdict, replace(exact.world.request(policy=EXACT), store=exact.store))
    assert verify(exact.store.path).errors == 0
    assert exact.views == ["exact", "exact"]


def test_a_moved_store_is_repaired(exact: _Exact) -> None:
    exact.sync()
    os.rename(exact.store.path, f"{exact.store.path}-moved")
    exact.store = exact.world.store = Store(f"{exact.store.path}-moved", lists=exact.lists)
    verdict = verify(exact.store.path)
    assert verdict.errors == 2, "each image has one layer with an absolute link"
    repair(verdict, replace(exact.world.request(policy=EXACT), store=exact.store))
    assert verify(exact.store.path).errors == 0


def _blobs(world: World, number: int) -> list[Digest]:
    """The digests of the layers of an image, base first."""
    path = world.repository / ".metadata" / app(number) / "manifest.json"
    return [layer.digest for layer in parse_manifest(path.read_bytes(), str(path)).layers]
