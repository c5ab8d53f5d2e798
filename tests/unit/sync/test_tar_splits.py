# SPDX-License-Identifier: Apache-2.0
"""Tar-splits of exact images in a store: written, examined, repaired."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.known import NoLists
from podman_cvmfs.lists.tar_split import TarSplitWriter
from podman_cvmfs.oci.documents import Digest, parse_manifest
from podman_cvmfs.settings.policy import Change, Policy, Reuse
from podman_cvmfs.store.metadata_size import metadata_bytes
from podman_cvmfs.store.records import StoredLayer
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
    """A list and a tar-split for each layer. Tar-splits may be ``gone`` when they are needed;
    nobody knows those of ``unknown`` layers."""

    def __init__(self) -> None:
        self.gone = False
        self.unknown: set[Digest] = set()

    def find(self, repository: str, layer: Digest) -> str | None:
        return layer.hex[::-1]

    def entries(self, digest: str) -> Iterable[Entry]:
        return _ENTRIES

    def tar_size(self, layer: Digest, diff_id: Digest) -> int | None:
        return None if layer in self.unknown else 512 + 5

    def tar_split(self, diff_id: Digest) -> bytes | None:
        split = io.BytesIO()
        writer = TarSplitWriter(split)
        writer.segment(bytes(512))
        writer.file(b"file", 5, bytes(8))
        writer.close()
        return None if self.gone else split.getvalue()


class _Split:
    """A world whose syncs have lists and tar-splits."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lists = _Lists()
        self.store = Store(world.store.path, lists=self.lists)

    def sync(self, policy: Policy = EXACT) -> SyncReport:
        return sync(replace(self.world.request(policy=policy), store=self.store))

    def repair(self) -> None:
        verdict = verify(self.store.path)
        assert verdict.errors
        repair(verdict, replace(self.world.request(policy=EXACT), store=self.store))
        assert verify(self.store.path).errors == 0

    @property
    def with_tars(self) -> list[StoredLayer]:
        return [layer for layer in self.world.content.layers.values() if layer.tar_split]

    def entry(self) -> Path:
        """The directory of the layer that shows the first image."""
        content = self.world.content
        top = content.layers[self.world.stored(app(0)).top_layer or ""]
        return Path(self.store.path) / "pool/layers" / top.entry


@pytest.fixture
def split(world: World) -> _Split:
    """Two images of three layers, two of which are common."""
    if os.geteuid() != 0:
        required("only root's stores are exact")
    world.make("repository", 2, shared=2)
    return _Split(world)


def test_podman_finds_tar_splits_that_lead_to_the_layer_s_files(split: _Split) -> None:
    split.sync()
    store = Path(split.store.path)
    assert len(split.with_tars) == len(split.world.content.layers) == 2 + 2 * 2
    assert all(layer.diff_size == 517 for layer in split.with_tars)
    for layer in split.with_tars:
        data = (store / f"overlay-layers/{layer.layer_id}.tar-split.gz").read_bytes()
        rows = [json.loads(line) for line in gzip.decompress(data).splitlines()]
        (name,) = [row["name"] for row in rows if row["type"] == 1]
        diff = os.path.normpath(store / "overlay" / layer.layer_id / "diff" / name)
        assert os.path.dirname(os.path.realpath(diff)) == os.path.realpath(
            store / "overlay" / layer.layer_id / "files"
        )
        assert name == "../files/file"
    assert verify(split.store.path).findings == ()
    assert not split.sync().changed
    assert metadata_bytes(split.store.path) > sum(
        os.stat(store / f"pool/layers/{layer.entry}/tar-split.gz").st_size
        for layer in split.with_tars
    )


@pytest.mark.parametrize("damage", ["cut", "files", "link", "gone", "extra"])
def test_damage_is_found_and_repaired(split: _Split, damage: str) -> None:
    split.sync()
    entry = split.entry()
    tar_split = entry / "tar-split.gz"
    if damage == "cut":
        os.truncate(tar_split, tar_split.stat().st_size - 4)
    elif damage == "files":
        (entry / "files").unlink()
        (entry / "files").symlink_to("/etc")
    elif damage == "gone":
        tar_split.unlink()
    else:
        layers = Path(split.store.path) / ".current/overlay-layers"
        name = f"{'0' * 64 if damage == 'extra' else entry.name.partition('-')[0]}.tar-split.gz"
        (layers / name).unlink(missing_ok=True)
        (layers / name).symlink_to("/nowhere")
    split.repair()
    assert len(split.with_tars) == 6


def test_a_tar_split_that_is_gone_costs_no_image_the_exact_view(split: _Split) -> None:
    split.lists.gone = True
    report = split.sync()
    assert not report.failed and "tar-split" in report.warnings[0]
    assert split.with_tars == []
    assert {split.world.stored(app(number)).view for number in (0, 1)} == {"exact"}
    assert verify(split.store.path).findings == ()


def test_images_get_tar_splits_as_soon_as_all_their_layers_have_one(split: _Split) -> None:
    path = split.world.repository / ".metadata" / app(1) / "manifest.json"
    last = parse_manifest(path.read_bytes(), str(path)).layers[-1].digest
    split.lists.unknown = {last}
    split.sync()
    assert len(split.with_tars) == 4
    assert not split.sync().changed
    split.lists.unknown = set()
    assert split.sync().changed and len(split.with_tars) == 6
    assert verify(split.store.path).findings == ()
    assert not split.sync().changed


def test_nothing_of_it_is_for_repositories_that_pulls_may_not_use(split: _Split) -> None:
    split.sync()
    refused = replace(EXACT, reuse=Reuse.NONE)
    assert Change.between(str(EXACT), str(refused)) is Change.OFFERED
    split.sync(refused)
    assert not any(layer.diff_id for layer in split.world.content.layers.values())
    assert verify(split.store.path).findings == ()
    split.sync()
    assert verify(split.store.path).findings == ()
    assert sum(layer.diff_id is not None for layer in split.with_tars) == 6


def test_layers_that_only_containers_still_use_are_nobody_s_to_find(split: _Split) -> None:
    split.sync()
    split.sync(Policy())
    assert split.with_tars, "they stay for a grace"
    assert all(layer.retired is not None and not layer.diff_id for layer in split.with_tars)
    assert verify(split.store.path).findings == ()
