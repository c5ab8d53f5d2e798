# SPDX-License-Identifier: Apache-2.0
"""Images for several platforms in DUCC's tree, and stores of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from tests.support.many import REGISTRY


def app(number: int) -> str:
    return f"{REGISTRY}/project/app{number}:{number}"


def config_for(repository: Path, number: int, architecture: str, **more: str) -> str:
    """Give the image with this number another architecture; returns its new ID. ``more`` goes into
    its config."""
    described = repository / f".metadata/{app(number)}/manifest.json"
    manifest = json.loads(described.read_text())
    old = manifest["Config"]["Digest"][7:]
    kept = repository / f"podmanStore/overlay-images/{old}"
    config = json.loads(next(kept.iterdir()).read_bytes())
    config["architecture"], _, variant = architecture.partition("/")
    if variant:
        config["variant"] = variant
    config.update(more)
    data = json.dumps(config).encode()
    new = Digest.of(data).hex
    shutil.rmtree(kept)
    (repository / f"podmanStore/overlay-images/{new}").mkdir()
    (repository / f"podmanStore/overlay-images/{new}" / big_data_file(f"sha256:{new}")).write_bytes(
        data
    )
    manifest["Config"]["Digest"] = f"sha256:{new}"
    described.write_text(json.dumps(manifest))
    (repository / f".flat/{new[:2]}").mkdir(exist_ok=True)
    (repository / f".flat/{old[:2]}/{old}").rename(repository / f".flat/{new[:2]}/{new}")
    (repository / app(number)).unlink()
    (repository / app(number)).symlink_to(f"../../.flat/{new[:2]}/{new}")
    return new


def publish_in(repository: Path, number: int, directory: str, name: str) -> None:
    """Publish the image as DUCC publishes one of an index, under ``name`` in ``directory``."""
    place = repository / ".multiarch" / directory / name
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.basename((repository / app(number)).readlink())
    place.symlink_to(os.path.relpath(repository / f".flat/{target[:2]}/{target}", place.parent))
    (repository / app(number)).unlink()
    described = repository / ".metadata/.multiarch" / directory / name
    described.parent.mkdir(parents=True, exist_ok=True)
    (repository / ".metadata" / app(number)).rename(described)
    link = repository / name
    if not link.is_symlink():
        link.symlink_to(f"../../.multiarch/$(CVMFS_ARCH:-amd64)/{name}")


def sync_for(root: Path, repository: Path, platform: Platform, *names: str) -> SyncReport:
    where = (Store(str(root / "store")), BlobCache(str(root / "cache")))
    return sync(SyncRequest([str(repository)], *where, requested=names, platform=platform))


def listed(root: Path) -> dict[str, str]:
    """What each name in the store is for."""
    content = read_store(str(root / "store"))
    assert content is not None
    images = content.images
    return {n: images[i].platform for n, i in content.names.items() if images[i].published}
