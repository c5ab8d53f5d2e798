# SPDX-License-Identifier: Apache-2.0
"""Reads files that belong to somebody else, who may have put anything there."""

from __future__ import annotations

import errno
import os
import stat

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: Linux ``Documentation/admin-guide/devices.txt``: 1:3 is /dev/null.
_NULL = os.makedev(1, 3)


def read_bounded(path: str, limit: int, *, follow: bool = True) -> bytes:
    """The content of the regular file ``path`` of at most ``limit`` bytes. Raises OSError.

    A FIFO or a device in its place doesn't block and isn't read. Only /dev/null counts as empty,
    because it often replaces configuration that should not count. Unless ``follow``, the file
    itself must not be a symbolic link.
    """
    descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    try:
        attributes = os.fstat(descriptor)
        if stat.S_ISCHR(attributes.st_mode) and attributes.st_rdev == _NULL:
            return b""
        if not stat.S_ISREG(attributes.st_mode):
            raise OSError(*_refusal(attributes.st_mode), path)
        chunks = []
        left, size = limit + 1, 0
        while left > 0:
            # Asking for one byte more than there are saves the read that finds the end.
            chunk = os.read(descriptor, min(left, attributes.st_size + 1))
            chunks.append(chunk)
            left -= len(chunk)
            size += len(chunk)
            # A short read may hide an error: only the next read tells it.
            if not chunk or size == attributes.st_size:
                break
    finally:
        os.close(descriptor)
    if left <= 0:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return b"".join(chunks)


def _refusal(mode: int) -> tuple[int, str]:
    if stat.S_ISDIR(mode):
        return errno.EISDIR, os.strerror(errno.EISDIR)
    return errno.EINVAL, "not a regular file"
