# SPDX-License-Identifier: Apache-2.0
"""The file lists of the test images' layers, made from their tars, and syncs that use them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.from_tar import list_of
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.settings.policy import Policy, Reuse, View
from podman_cvmfs.store.store import Store
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.run import sync
from tests.support.images import Built
from tests.support.layers import Blob


def entries_of(blob: Blob) -> list[Entry]:
    """The list of a layer as podman would unpack it."""
    digest = Digest.parse(blob.digest)
    descriptor = Descriptor("application/octet-stream", digest, len(blob.data))
    return list_of(LayerStream(iter([blob.data]), descriptor, Digest.parse(blob.diff_id))).entries


class TarLists:
    """Lists for all layers of ``images``; ``KnownLists``."""

    def __init__(self, images: Iterable[Built]) -> None:
        self._blobs = {blob.digest: blob for image in images for blob in image.blobs}
        self._lists: dict[str, list[Entry]] = {}

    def find(self, repository: str, layer: Digest) -> str | None:
        """The digest of a layer's list."""
        blob = self._blobs.get(str(layer))
        if blob is None:
            return None
        entries = entries_of(blob)
        digest = hashlib.sha256(repr(entries).encode()).hexdigest()
        self._lists[digest] = entries
        return digest

    def entries(self, digest: str) -> Iterable[Entry]:
        """A list that has been found."""
        return self._lists[digest]


def sync_exact(
    repository: Path,
    store: Path,
    lists: TarLists,
    reuse: Reuse = Reuse.BASE,
    *,
    exact: bool = True,
) -> SyncReport:
    """Sync all images of ``repository`` into a store of the exact view; unless ``exact``, as for a
    podman that can't mount it."""
    return sync(
        SyncRequest(
            repositories=[str(repository)],
            store=Store(str(store), lists=lists),
            cache=BlobCache(str(store.with_name(f"{store.name}-cache"))),
            policy=Policy(View.EXACT, reuse, exact=exact),
        )
    )
