# SPDX-License-Identifier: Apache-2.0
"""Blobs fetched from registries, kept for ever under their digest.

Layout: ``<directory>/sha256/<2 hex digits>/<64 hex digits>``, each file exactly the blob. A file
that doesn't have its digest (a disk fault, a foreign hand) is as good as absent.
"""

from __future__ import annotations

import os
import tempfile

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.oci import MAX_DOCUMENT, Digest


class BlobCache:
    """The cache in ``directory``, which is made when the first blob is kept."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)

    def _path(self, digest: Digest) -> str:
        return f"{self.directory}/sha256/{digest.hex[:2]}/{digest.hex}"

    def get(self, digest: Digest) -> bytes | None:
        """The blob with ``digest``, checked; None if it isn't here."""
        try:
            with open(self._path(digest), "rb") as file:
                data = file.read(MAX_DOCUMENT + 1)
        except OSError:
            return None
        return data if Digest.of(data) == digest else None

    def put(self, data: bytes) -> None:
        """Keep ``data`` under its digest, whole or not at all. Raises StoreError."""
        path = self._path(Digest.of(data))
        temporary = None
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except OSError as err:
            if temporary and os.path.lexists(temporary):
                os.unlink(temporary)
            raise StoreError(
                f"can't write to the blob cache {printable(self.directory)}: {err.strerror}",
                "name another directory with --cache DIR",
            ) from err
