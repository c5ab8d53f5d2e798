# SPDX-License-Identifier: Apache-2.0
"""What a sync asks while it completes images: lists that are to be made, and layers' markers."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.kept import KeptLists
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.registry.access import RegistryAccess, RegistrySource
from podman_cvmfs.repository.served import health_of
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.repository.whiteouts import Markers

if TYPE_CHECKING:
    from podman_cvmfs.lists.source import ListSource

log = logging.getLogger(__name__)


class ListMaker:
    """Makes lists of layers that have none, for all repositories of a sync; safe to use from
    several threads.

    ``kept`` keeps them. ``makes``: whether lists are made at all. ``asks_registries``: whether
    layers are fetched from their registries for that.
    """

    def __init__(self, kept: KeptLists, makes: bool = True, asks_registries: bool = False) -> None:
        self._kept = kept
        self.makes = makes
        self._asks_registries = asks_registries
        self._sources: dict[str, ListSource] = {}
        self._lock = threading.Lock()

    def fetch(
        self, name: ImageName, layer: Descriptor, diff_id: Digest, registries: RegistryAccess
    ) -> bool:
        """Have the list that the layer's tar in the registry of the image ``name`` gives, if
        registries are asked; tell whether it is there. Raises StoreError."""
        if not self._asks_registries:
            return False

        def ask(client: RegistrySource) -> str | None:
            from podman_cvmfs.lists.source import from_registry

            try:
                stream = functools.partial(client.blob_stream, name)
                return from_registry(self._kept, layer, diff_id, stream)
            except InputError as err:
                log.warning("%s: layer %s has no list: %s", name, layer.digest.hex[:12], err)
                return None

        found, reason = registries.ask(name, ask)
        if found is None and reason:
            log.info("%s: no list of layer %s: %s", name, layer.digest.hex[:12], reason)
        return found is not None

    def make(self, tree: Tree, layer: Digest, merged: str | None = None) -> None:
        """Have a list of the layer with this blob in the repository at ``tree``, if one can be had;
        ``merged`` is the merged root of an image with that layer. Raises StoreError."""
        self._source(tree).find(layer, merged)

    def markers(self, tree: Tree, layer: Digest) -> Markers | None:
        """The markers of a layer by the repository's catalogues; None if they don't tell."""
        return None if health_of(tree) is None else self._source(tree).markers(layer)

    def _source(self, tree: Tree) -> ListSource:
        with self._lock:
            if tree.root not in self._sources:
                # What asks servers takes long to load, and most syncs don't need it.
                from podman_cvmfs.lists.catalogues import Catalogues
                from podman_cvmfs.lists.source import ListSource

                catalogues = Catalogues(self._kept.directory)
                self._sources[tree.root] = ListSource(tree, self._kept, catalogues)
            return self._sources[tree.root]
