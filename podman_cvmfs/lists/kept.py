# SPDX-License-Identifier: Apache-2.0
"""The file lists and tar-splits in the cache.

Layout: ``lists/<2 hex digits>/<64 hex digits>`` is a list: the lines of ``dump``, compressed with
zstd, named by the SHA-256 of the lines. ``layer-lists/<2>/<64>`` is a note: the source and the
SHA-256 of a layer's list. Its name is the SHA-256 of the repository's path, a null byte and the
digest of the layer's blob; the path is empty for a list made of the blob itself, which holds in
every repository. ``tar-splits/<2>/<64>`` is the tar-split of the layer with this diff ID,
and empty if the layer can't have one.

All these can be made again. If they take more than the budget, those used least lately go.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from enum import Enum

from podman_cvmfs.cache.list_files import LAYER_LISTS, LISTS, MAX_LIST_FILE, TAR_SPLITS
from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.lists.dump import MAX_LINE, read, write
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.inodes import ENTRY, MOST, size_of
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.util.files import write_whole
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)

#: The directory of catalogues in the cache: see ``catalogues``.
CATALOGUES = "catalogues"
#: What counts in the budget.
BUDGETED = (LISTS, LAYER_LISTS, TAR_SPLITS, CATALOGUES)
#: What is left is so much of the budget, in percent: so the next ones have room.
_LEFT = 80
#: The largest list, in bytes, as it is unpacked.
_MAX_LINES = 2 << 30
_NOTE = re.compile(r"1 ([a-z]+) ([0-9a-f]{64})\n\Z")


class Source(str, Enum):
    """Where a list is from; the best comes first."""

    #: The layer's tar in a registry. Nothing is missing.
    REGISTRY = "registry"
    #: A list that the publisher left beside the layer.
    PUBLISHED = "published"
    #: The catalogues of CernVM-FS. Attributes and hard links are missing.
    CATALOGUE = "catalogue"
    #: The files themselves in a plain directory.
    WALK = "walk"
    #: The files as they show, where the owners of the image's files are lost. Such a list tells
    #: names, and no image may be shown by it.
    SHOWN = "shown"


class KeptLists:
    """The lists in the cache ``directory``; safe to use from several threads. ``budget`` is in
    bytes."""

    def __init__(self, directory: str, budget: int) -> None:
        self.directory = os.path.abspath(directory)
        self._budget = budget
        self._lock = threading.Lock()
        self._size: int | None = None

    def find(self, repository: str, layer: Digest) -> str | None:
        """The digest, in hexadecimal, of the best list of a layer; None if there is no list that
        tells more than containers see anyway."""
        found = self.note(repository, layer)
        return None if found is None or found[0] is Source.SHOWN else found[1]

    def note(self, repository: str, layer: Digest) -> tuple[Source, str] | None:
        """The source and the digest of the best list of the layer whose blob has the digest
        ``layer`` and whose files are in ``repository``; None if there is none."""
        for root in ("", repository):
            try:
                path = self._path(LAYER_LISTS, _of_layer(root, layer))
                match = _NOTE.match(read_bounded(path, 200).decode("ascii"))
                if match is not None and os.path.exists(self._path(LISTS, match[2])):
                    self._touch(path, self._path(LISTS, match[2]))
                    return Source(match[1]), match[2]
            except (OSError, ValueError):
                continue
        return None

    def entries(self, digest: str) -> Iterator[Entry]:
        """The list with this digest. Raises StoreError if it is gone or damaged, perhaps after some
        entries."""
        what = f"the file list {digest[:12]}"
        try:
            stored = read_bounded(self._path(LISTS, digest), MAX_LIST_FILE)
        except OSError:
            raise StoreError(f"{what} is gone from the cache", "sync again") from None
        hashed = hashlib.sha256()
        try:
            yield from read(_lines(stored, hashed, what), what)
        except InputError as err:
            raise StoreError(f"{what} is damaged: {err}", "remove it and sync again") from None
        if hashed.hexdigest() != digest:
            raise StoreError(f"{what} is damaged: it has another digest", "remove it, sync again")

    def keep(
        self, repository: str, layer: Digest, entries: Collection[Entry], source: Source
    ) -> str:
        """Keep the list of a layer; return its digest. Raises StoreError."""
        import zstandard

        hashed = hashlib.sha256()
        packed = io.BytesIO()
        with zstandard.ZstdCompressor().stream_writer(packed, closefd=False) as writer:
            for line in write(entries):
                hashed.update(line)
                writer.write(line)
        digest = hashed.hexdigest()
        root = "" if source is Source.REGISTRY else repository
        note = f"1 {source.value} {digest}\n".encode("ascii")
        self._write(self._path(LISTS, digest), packed.getvalue())
        self._write(self._path(LAYER_LISTS, _of_layer(root, layer)), note)
        return digest

    def tar_split(self, diff_id: Digest) -> bytes | None:
        """The tar-split of a layer, compressed with gzip; None if there is none."""
        path = self._path(TAR_SPLITS, diff_id.hex)
        try:
            found = read_bounded(path, MAX_LIST_FILE)
        except OSError:
            return None
        self._touch(path)
        return found or None

    def has_tar_split(self, diff_id: Digest) -> bool:
        """Whether the tar-split of a layer is here, or is known not to exist."""
        return os.path.exists(self._path(TAR_SPLITS, diff_id.hex))

    def keep_tar_split(self, diff_id: Digest, data: bytes) -> None:
        """Keep the tar-split of a layer; empty if there can't be one. Raises StoreError."""
        self._write(self._path(TAR_SPLITS, diff_id.hex), data)

    def size(self) -> int:
        """The bytes of all that counts in the budget."""
        return sum(size for _, size, _ in self._files())

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """Time of last use, size and path of each file that counts."""
        for kind in BUDGETED:
            for parent, _, names in os.walk(f"{self.directory}/{kind}"):
                for name in names:
                    with contextlib.suppress(OSError):
                        found = os.lstat(f"{parent}/{name}")
                        yield found.st_mtime_ns, found.st_size, f"{parent}/{name}"

    def _write(self, path: str, data: bytes) -> None:
        try:
            write_whole(path, data, inside=self.directory)
        except OSError as err:
            raise StoreError(
                f"can't write to the cache {printable(self.directory)}: {err.strerror}",
                "name another directory with --cache DIR",
            ) from None
        with self._lock:
            self._size = self.size() if self._size is None else self._size + len(data)
            if self._size > self._budget:
                self._size = self._trim()

    def _trim(self) -> int:
        """Remove what was used least lately; return the bytes that are left."""
        found = sorted(self._files())
        size = sum(each for _, each, _ in found)
        for _, each, path in found:
            if size <= self._budget * _LEFT // 100:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                size -= each
        log.info("the file lists in the cache were cut down to %d bytes", size)
        return size

    @staticmethod
    def _touch(*paths: str) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                os.utime(path)

    def _path(self, kind: str, name: str) -> str:
        return f"{self.directory}/{kind}/{name[:2]}/{name}"


def _of_layer(repository: str, layer: Digest) -> str:
    key = f"{repository}\0{layer}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(key).hexdigest()


def _lines(stored: bytes, hashed: hashlib._Hash, what: str) -> Iterator[bytes]:
    """The lines of the compressed list ``what``, which are hashed as well.

    Raises InputError if they are too many or can't be unpacked.
    """
    # Imported here, because commands that read no list load this module too.
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(stored)
    left = _MAX_LINES
    with io.BufferedReader(reader, 1 << 18) as buffered:
        while True:
            try:
                line = buffered.readline(MAX_LINE + 1)
            except zstandard.ZstdError as err:
                raise InputError(f"{what} can't be unpacked: {err}") from None
            if not line:
                return
            left -= len(line)
            if left < 0:
                raise InputError(f"{what} is too long")
            hashed.update(line)
            yield line


def read_compressed(stored: bytes, what: str) -> Iterable[Entry]:
    """The entries in a list that is compressed with zstd. Raises InputError, perhaps after some
    entries, also for a list that would take more memory than any layer's."""
    left = MOST
    for entry in read(_lines(stored, hashlib.sha256(), what), what):
        names = len(entry.path) + len(entry.target or "") + len(entry.backing or "")
        left -= ENTRY + names + size_of(entry.xattrs)
        if left < 0:
            raise InputError(f"{what} has more files than a file list may have")
        yield entry
