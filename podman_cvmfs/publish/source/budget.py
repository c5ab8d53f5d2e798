# SPDX-License-Identifier: Apache-2.0
"""Limits the size of an unpacked image: a few kilobytes must not fill a disk, or use a processor
for hours."""

from __future__ import annotations

import os
import re

from podman_cvmfs.errors import InputError, RepositoryError

#: What every image may take, in bytes, and how much more for each byte that was read. Layers with
#: text reach 10; gzip can't get beyond 1,032, zstd beyond a million.
_FLOOR = 512 << 20
_RATIO = 100
#: What a file or a directory takes beside its contents: an inode, a name, time. So does each
#: directory on a long way to it.
ENTRY = 1 << 10

_SIZE = re.compile(r"(\d{1,15})([KMGT]?)(i?B)?\Z", re.ASCII | re.IGNORECASE)
_UNITS = " KMGT"


class Budget:
    """The one budget of an image: bytes that are unpacked, with ``ENTRY`` for each file.

    It grows with the bytes that are read, so it doesn't depend on the manifest's numbers.
    ``max_size`` replaces it. ``directory`` is one on the file system that is written to: no more is
    unpacked than it has free.
    """

    def __init__(self, max_size: int | None = None, directory: int | None = None) -> None:
        self._max_size = max_size
        self._read = 0
        self._spent = 0
        self._free: int | None = None
        if directory is not None:
            status = os.fstatvfs(directory)
            self._free = status.f_bavail * status.f_frsize

    def earn(self, count: int) -> None:
        """Note that ``count`` bytes of the image were read, as they are stored."""
        self._read += count

    def spend(self, count: int) -> None:
        """Take ``count`` bytes, before they are written. InputError if they are too many.

        RepositoryError if the file system hasn't as much free.
        """
        self._spent += count
        limit = _FLOOR + _RATIO * self._read if self._max_size is None else self._max_size
        if self._spent > limit:
            if self._max_size is not None:
                raise InputError(
                    f"unpacked the image takes more than {shown_size(limit)}, the --max-size given",
                    "give a larger --max-size if you trust who made the image",
                )
            raise InputError(
                f"unpacked the image takes more than {shown_size(limit)}, which is the limit for "
                f"the {shown_size(self._read)} that were read of it "
                f"({shown_size(_FLOOR)} and {_RATIO} times what is read)",
                f"give --max-size {_next_size(limit)} if you trust who made the image",
            )
        if self._free is not None and self._spent > self._free:
            raise RepositoryError(
                f"unpacked the image takes more than the {shown_size(self._free)} that the file "
                "system has free",
                "nothing was changed; make room and publish again",
            )


def parse_size(text: str) -> int:
    """A number of bytes from text as ``20G`` (K, M, G, T: powers of 1,024). Raises InputError."""
    found = _SIZE.match(text.strip())
    if found is None:
        raise InputError(f"not a size: {text!r:.50}", "write it as 500M or 20G")
    return int(found[1]) << (10 * _UNITS.index(found[2].upper() or " "))


def shown_size(size: int) -> str:
    """A number of bytes for a message, in the units that ``parse_size`` reads."""
    power = 0
    while size >> (10 * (power + 1)) >= 10 and power < 4:
        power += 1
    unit = _UNITS[power].strip()
    return f"{size >> (10 * power)} {unit + 'iB' if unit else 'bytes'}"


def _next_size(size: int) -> str:
    """Twice as much, as an argument."""
    return f"{max(1, (2 * size) >> 30)}G"
