# SPDX-License-Identifier: Apache-2.0
"""The cache: blobs from registries, and markers of layers. It keeps them for ever.

Layout: ``<directory>/sha256/<2 hex digits>/<64 hex digits>`` is exactly the blob of that digest. A
file with another digest (a disk fault, a stranger's edit) counts as missing.
``<directory>/manifests/<2 hex digits>/<64 hex digits>`` names, a line each, the digests of the
manifest of the image with that source ID and of the index that lists it; both are blobs. An empty
file says that the registry has answered and has another manifest there by now.
``<directory>/layer-markers/<2 hex digits>/<64 hex digits>`` lists the markers of an unpacked layer.
The name is the SHA-256 of the repository's path, a null byte and the digest of the layer's
compressed blob: so one repository can't describe the files of another one. Earlier versions named
such files ``markers/`` by the digest alone; these are read no more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from podman_cvmfs.cache.sources import (
    BLOBS,
    MAX_NOTE,
    NOTES,
    BlobSources,
    noted_digests,
    path_in_tree,
)
from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Digest
from podman_cvmfs.repository.whiteouts import Markers, from_json
from podman_cvmfs.util.files import write_whole
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.trusted_place import require_own_place

_MARKERS = "layer-markers"
#: Start-up profiles of images, by their source ID (``profiles/profile.py``).
PROFILES = "profiles"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
#: A layer with more markers than fit is looked at again each time.
_MAX_MARKERS = 64 * 1024 * 1024


class BlobCache:
    """The cache in ``directory``, which is made when the first thing is kept."""

    def __init__(self, directory: str, sources: BlobSources | None = None) -> None:
        self.directory = os.path.abspath(directory)
        #: The site's places to ask for documents that are not here.
        self.sources = sources or BlobSources()

    def require_own(self) -> None:
        """Raise InputError for root where somebody else could exchange parts of the cache: all that
        is written goes by paths, and not all that is read can be checked. Raises StoreError."""
        try:
            require_own_place(self.directory)
        except OSError as err:
            raise self._error(err) from err

    def get(self, digest: Digest) -> bytes | None:
        """The blob with ``digest``, checked; None if it isn't here."""
        data = self._read(BLOBS, digest, MAX_DOCUMENT)
        return data if data is not None and Digest.of(data) == digest else None

    def put(self, data: bytes) -> None:
        """Keep ``data`` under its digest, whole or not at all. Raises StoreError."""
        self._write(BLOBS, Digest.of(data), data)

    def manifests(self, image_id: Digest) -> tuple[bytes | None, bytes | None]:
        """The genuine manifest of an image, and the index that lists it if there is one."""
        blobs = [self.get(digest) for digest in self.manifest_digests(image_id)]
        return (blobs[0] if blobs else None), (blobs[1] if len(blobs) > 1 else None)

    def manifest_digests(self, image_id: Digest) -> tuple[Digest, ...]:
        """The digests of these, as far as they are known."""
        return noted_digests(self._read(NOTES, image_id, MAX_NOTE) or b"")

    def held(self, kind: str) -> Iterator[Digest]:
        """The names of all files of a kind (BLOBS, NOTES, PROFILES) in order. Raises StoreError."""
        top = f"{self.directory}/{kind}"
        try:
            for directory in sorted(name for name in os.listdir(top) if len(name) == 2):
                for name in sorted(os.listdir(f"{top}/{directory}")):
                    if _HEX.match(name) and name.startswith(directory):
                        yield Digest(name)
        except FileNotFoundError:
            return
        except OSError as err:
            where = printable(self.directory)
            raise StoreError(f"can't read the cache {where}: {err.strerror}") from None

    def keep_manifests(self, image_id: Digest, manifest: bytes, index: bytes | None) -> None:
        """Keep the genuine manifest of an image. Raises StoreError."""
        documents = [manifest] if index is None else [manifest, index]
        for document in documents:
            self.put(document)
        self.keep_manifest_digests(image_id, [Digest.of(document) for document in documents])

    def keep_manifest_digests(self, image_id: Digest, digests: Sequence[Digest]) -> None:
        """Record the digests of these. Raises StoreError."""
        self._write(NOTES, image_id, "".join(f"{each}\n" for each in digests).encode())

    def markers(self, repository: str, layer: Digest) -> Markers | None:
        """The markers of the layer whose blob has this digest, as the repository at this path has
        it; None if unknown."""
        data = self._read(_MARKERS, _of_layer(repository, layer), _MAX_MARKERS)
        return None if data is None else from_json(data)

    def keep_markers(self, repository: str, layer: Digest, markers: Markers) -> None:
        """Keep the markers of a layer. Raises StoreError."""
        self._write(_MARKERS, _of_layer(repository, layer), markers.to_json())

    def profile(self, image_id: Digest, limit: int) -> bytes | None:
        """The start-up profile of an image, unchecked; None if none of at most ``limit`` bytes is
        here."""
        return self._read(PROFILES, image_id, limit)

    def keep_profile(self, image_id: Digest, data: bytes) -> None:
        """Keep the start-up profile of an image. Raises StoreError."""
        self._write(PROFILES, image_id, data)

    def _path(self, kind: str, digest: Digest) -> str:
        return f"{self.directory}/{path_in_tree(kind, digest)}"

    def _read(self, kind: str, digest: Digest, limit: int) -> bytes | None:
        try:
            return read_bounded(self._path(kind, digest), limit)
        except OSError:
            return None

    def _write(self, kind: str, digest: Digest, data: bytes) -> None:
        try:
            write_whole(self._path(kind, digest), data, inside=self.directory)
        except OSError as err:
            raise self._error(err) from err

    def _error(self, err: OSError) -> StoreError:
        return StoreError(
            f"can't write to the cache {printable(self.directory)}: {err.strerror}",
            "name another directory with --cache DIR",
        )


def _of_layer(repository: str, layer: Digest) -> Digest:
    return Digest.of(f"{repository}\0{layer}".encode("utf-8", "surrogateescape"))
