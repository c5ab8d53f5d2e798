# SPDX-License-Identifier: Apache-2.0
"""Gets catalogues of CernVM-FS, checks them by their hashes, and keeps them in the cache.

Layout: ``<cache>/catalogues/<first 2 digits>/<the other digits and suffix>`` is the compressed
object exactly as the server has it (CernVM-FS 2.12 ``crypto/hash.h``). It is checked again at each
reading, so nobody can exchange it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.lists.catalogue_address import DIRECT, CatalogueAddress
from podman_cvmfs.lists.catalogue_rows import Catalogue
from podman_cvmfs.lists.kept import CATALOGUES
from podman_cvmfs.registry.objects import ObjectClient
from podman_cvmfs.util.files import write_whole
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)

#: The largest object, in bytes, as it is stored and unpacked: a million files take half of it.
MAX_STORED, _MAX_UNPACKED = 128 << 20, 512 << 20
_PIECE = 1 << 20


class Catalogues:
    """Gets catalogues; may be used from several threads at once. ``cache`` is the cache's
    directory; None: nothing is kept."""

    def __init__(self, cache: str | None, client: ObjectClient | None = None) -> None:
        self._cache = cache
        self._client = client or ObjectClient()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    @contextlib.contextmanager
    def opened(self, address: CatalogueAddress) -> Iterator[Catalogue]:
        """The catalogue at ``address``.

        Raises RegistryError if it can't be had, InputError if it is damaged or too large, OSError.
        """
        stored = self._stored(address)
        with tempfile.NamedTemporaryFile(prefix="podman-cvmfs-") as file:
            _unpack(stored, file)
            del stored
            with Catalogue(file.name) as catalogue:
                yield catalogue

    def _stored(self, address: CatalogueAddress) -> bytes:
        path = None
        if self._cache is not None:
            path = f"{self._cache}/{CATALOGUES}/{address.hash[:2]}/{address.hash[2:]}"
            with contextlib.suppress(OSError):
                data = read_bounded(path, MAX_STORED)
                if hash_of(data, address.hash) == address.hash:
                    return data
        proxy = None if address.proxy == DIRECT else address.proxy
        subject = f"catalogue {address.hash}"
        data = self._client.get(address.url, proxy, subject, MAX_STORED)
        if hash_of(data, address.hash) != address.hash:
            raise RegistryError(f"{subject}: the server sent a file with another hash")
        if path is not None:
            try:
                write_whole(path, data, inside=self._cache)
            except (OSError, InputError) as err:
                log.debug("%s can't be kept: %s", subject, err)
        return data


def hash_of(data: bytes, wanted: str) -> str | None:
    """The hash of an object in the algorithm of the hash ``wanted``; None if Python lacks it."""
    _, _, algorithm = wanted.partition("-")
    if algorithm == "shake128":
        return f"{hashlib.shake_128(data).hexdigest(20)}-{algorithm}"
    try:
        if algorithm == "rmd160":
            found = hashlib.new("ripemd160", data, usedforsecurity=False)
            return f"{found.hexdigest()}-{algorithm}"
        return hashlib.sha1(data, usedforsecurity=False).hexdigest()
    except ValueError:
        return None


def _unpack(stored: bytes, file: IO[bytes]) -> None:
    """Write the file in an object to ``file``. Raises InputError, OSError."""
    unpacking = zlib.decompressobj()
    size = 0
    try:
        data = stored
        while not unpacking.eof:
            piece = unpacking.decompress(data, _PIECE)
            data = unpacking.unconsumed_tail
            if not piece and not data:
                raise InputError("the catalogue is damaged: it ends too early")
            size += len(piece)
            if size > _MAX_UNPACKED:
                raise InputError(f"the catalogue is larger than {_MAX_UNPACKED} bytes")
            file.write(piece)
    except zlib.error as err:
        raise InputError(f"the catalogue is damaged: {err}") from None
    file.flush()
