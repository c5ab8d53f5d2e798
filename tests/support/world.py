# SPDX-License-Identifier: Apache-2.0
"""Repositories, a store and a cache below one directory, for tests of whole syncs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.documents import parse_manifest, render_manifest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer, layers_of
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from podman_cvmfs.sync.selection import Selection
from tests.support.blobs import Blobs
from tests.support.many import REGISTRY, make_repository


def app(number: int) -> str:
    """The name of an image of ``make_repository``."""
    return f"{REGISTRY}/project/app{number}:{number}"


class World:
    """A store, a cache, and the repositories that syncs read.

    ``repository`` is what a sync reads unless it names others; ``wish_list``, if there is one, has
    the images that are wanted.
    """

    def __init__(self, root: Path, wish_list: Sequence[str] | None = None) -> None:
        self.root = root
        self.repository = root / "repository"
        self.store = Store(str(root / "store"))
        self.wish_list = wish_list

    def make(self, name: str, images: int, shared: int = 1) -> Path:
        """A repository of images of three layers, of which the lowest ``shared`` are common."""
        return make_repository(self.root / name, images, layers=3, shared=shared)

    def request(
        self,
        *names: str,
        repositories: Sequence[Path] = (),
        registry: Blobs | None = None,
        everything: bool = False,
        without: str | None = None,
        policy: Policy = DEFAULT_POLICY,
        hide_outage: bool = False,
    ) -> SyncRequest:
        """What a sync is to do. ``everything`` is wanted whatever the wish list has."""
        listed = None if everything or self.wish_list is None else self.wish_list
        return SyncRequest(
            repositories=[str(each) for each in repositories or [self.repository]],
            store=self.store,
            cache=BlobCache(str(self.root / "cache")),
            registry=None if registry is None else lambda: registry,
            requested=names,
            selection=Selection(
                None if listed is None else map(ImageSpec.parse, listed),
                (),
                () if without is None else (without,),
            ),
            platform=Platform("amd64"),
            policy=policy,
            hide_outage=hide_outage,
        )

    def sync(self, *names: str, **how: Any) -> SyncReport:
        """Sync, as ``request`` says."""
        return sync(self.request(*names, **how))

    def sync_from(self, *repositories: Path, **how: Any) -> SyncReport:
        """Sync from other repositories than ``repository``."""
        return self.sync(repositories=repositories, **how)

    @property
    def content(self) -> StoreContent:
        """What the store holds."""
        return read_store(self.store.path) or StoreContent()

    @property
    def names(self) -> dict[str, str]:
        """The image ID under each name that isn't of a retired image."""
        content = self.content
        return {n: i for n, i in content.names.items() if content.images[i].published}

    def link(self, number: int) -> Path:
        """Where ``repository`` has the name ``app(number)``."""
        return self.repository / app(number)

    def flat(self, number: int) -> Path:
        """The merged root that the link leads to."""
        return self.link(number).parent / os.readlink(self.link(number))

    def stored(self, name: str) -> StoredImage:
        """The image that the store has under a name."""
        return self.content.images[self.content.names[name]]

    def layers(self, number: int) -> list[StoredLayer]:
        """The layers of ``app(number)``, from the top down."""
        return layers_of(self.content, self.stored(app(number)))

    def pieces(self, layer: StoredLayer) -> list[Path]:
        """What shows a layer, nearest first."""
        overlay = Path(self.store.path, "overlay")
        return [overlay / piece_id / "diff" for piece_id in layer.lowers or ()]

    def targets(self, number: int) -> list[str]:
        """What the links of an image's layers lead to, below the world's root."""
        found = []
        for layer in self.layers(number):
            links = [part for part in self.pieces(layer) if part.is_symlink()]
            found += [os.path.relpath(os.readlink(link), self.root) for link in links]
        return found

    def homes(self, number: int) -> set[str]:
        """The repositories that show an image."""
        return {target.split("/")[0] for target in self.targets(number)}

    def advertised(self) -> list[StoredLayer]:
        """The layers that pulls find by their digests."""
        return [layer for layer in self.content.layers.values() if layer.diff_id is not None]

    def take_configs(self) -> dict[str, bytes]:
        """Take the configs out of ``repository``; return them by image ID."""
        place = self.repository / "podmanStore/overlay-images"
        found = {path.parent.name: path.read_bytes() for path in place.glob("*/*")}
        shutil.rmtree(self.repository / "podmanStore")
        return found

    def genuine(self, number: int) -> bytes:
        """The manifest of ``app(number)`` as a registry has it: other white space and an
        annotation."""
        path = self.repository / f".metadata/{app(number)}/manifest.json"
        document = json.loads(render_manifest(parse_manifest(path.read_bytes())))
        return json.dumps({**document, "annotations": {"a": "b"}}, indent=3).encode()
