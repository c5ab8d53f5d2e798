# SPDX-License-Identifier: Apache-2.0
"""A site's own places with the documents of registries: web servers, or shared directories.

So one host asks a registry, and all others ask these. A place has the same tree as a cache has:
``sha256/<2>/<64>`` and ``manifests/<2>/<64>``, see ``blobs``. A place is not trusted with the
content: a blob counts only with its digest, and a manifest only if it describes the image.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from podman_cvmfs.errors import (
    InputError,
    NotInRegistry,
    RegistryError,
    RegistryUnreachable,
    printable,
)
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Digest
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.web_address import is_web_address

if TYPE_CHECKING:
    from podman_cvmfs.registry.web import WebClient

log = logging.getLogger(__name__)

BLOBS, NOTES = "sha256", "manifests"
#: Faults of one file, which say nothing about the others.
_ONE_FILE = (errno.EISDIR, errno.EINVAL, errno.EFBIG, errno.ELOOP)
#: Bytes; a note names two digests.
MAX_NOTE = 1024


def path_in_tree(kind: str, digest: Digest) -> str:
    """Where a cache or a source has the file of this kind, relative to its top."""
    return f"{kind}/{digest.hex[:2]}/{digest.hex}"


def noted_digests(note: bytes) -> tuple[Digest, ...]:
    """The digests of manifest and index in a note; empty for a malformed one."""
    try:
        return tuple(Digest.parse(line) for line in note.decode("ascii").splitlines()[:2])
    except (InputError, UnicodeDecodeError):
        return ()


class BlobSources:
    """Asks ``places``, paths or addresses, in their order; safe to use from several threads.

    ``make_client`` makes the client when an address is asked for the first time. A place that
    doesn't answer is not asked again as long as this object lives. The log names it once.
    """

    def __init__(
        self, places: Sequence[str] = (), make_client: Callable[[], WebClient] | None = None
    ) -> None:
        self.places = tuple(place.rstrip("/") for place in places)
        self._make_client = make_client
        self._client: WebClient | None = None
        self._down: set[str] = set()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self.places)

    def blob(self, digest: Digest) -> bytes | None:
        """The blob with ``digest``, checked; None if no place has it."""
        for place in self.places:
            data = self._file(place, path_in_tree(BLOBS, digest), MAX_DOCUMENT)
            if data is not None and Digest.of(data) == digest:
                return data
            if data is not None:
                log.warning("%s has another content under the digest %s", printable(place), digest)
        return None

    def manifest_digests(self, image_id: Digest) -> tuple[Digest, ...] | None:
        """The digests of an image's manifest and of the index that lists it. They are empty if the
        site knows that the registry doesn't have the manifest any more; None if no place knows."""
        for place in self.places:
            note = self._file(place, path_in_tree(NOTES, image_id), MAX_NOTE)
            digests = noted_digests(note or b"")
            # Only an empty note says that the manifest is lost; a damaged one says nothing.
            if digests or note == b"":
                return digests
        return None

    def _file(self, place: str, path: str, limit: int) -> bytes | None:
        if place in self._down:
            return None
        try:
            if is_web_address(place):
                return self._fetched(f"{place}/{path}", place, limit)
            return read_bounded(f"{place}/{path}", limit)
        except FileNotFoundError:
            if not os.path.isdir(place):
                self._give_up(place, f"the blob source {printable(place)} is not there")
        except OSError as err:
            if err.errno in _ONE_FILE:
                log.warning("%s: %s", printable(f"{place}/{path}"), err.strerror)
            else:
                why = f"can't read the blob source {printable(place)}: {err.strerror}"
                self._give_up(place, why)
        except RegistryUnreachable as err:
            self._give_up(place, err.message)
        except RegistryError as err:
            log.warning("%s", err.message)
        return None

    def _fetched(self, address: str, place: str, limit: int) -> bytes | None:
        with self._lock:
            if self._client is None:
                assert self._make_client is not None
                self._client = self._make_client()
        try:
            found = self._client.get(address, f"the blob source {place}", limit)
        except NotInRegistry:
            return None
        return None if found is None else found.data

    def _give_up(self, place: str, message: str) -> None:
        with self._lock:
            is_known = place in self._down
            self._down.add(place)
        if not is_known:
            log.warning("%s", message)
