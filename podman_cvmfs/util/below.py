# SPDX-License-Identifier: Apache-2.0
"""Opens files and directories below an open directory, safely if others can exchange them.

No symbolic link is followed, no pipe or device is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

#: For os.open: a directory, and no link to one.
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: bytes, dir_fd: int) -> int:
    """Open the directory ``path`` below ``dir_fd``; none of its parts may be a link.

    b"" is ``dir_fd`` itself. OSError (ENOTDIR) if a part is a link or no directory.
    """
    fd = os.open(b".", OPEN_DIRECTORY, dir_fd=dir_fd)
    for part in path.split(b"/") if path else ():
        try:
            deeper = os.open(part, OPEN_DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


@contextlib.contextmanager
def directory(path: bytes, dir_fd: int) -> Iterator[int]:
    """``open_directory`` for a ``with`` statement."""
    fd = open_directory(path, dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def open_regular(name: str, dir_fd: int) -> int:
    """A descriptor for reading the regular file ``name`` in the open directory ``dir_fd``.

    Raises OSError: ELOOP for a symbolic link, EINVAL for a pipe, a device or a directory. None of
    them is followed, waited for, or read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=dir_fd)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", name)


def read_regular(name: str, dir_fd: int, limit: int) -> bytes:
    """The contents of such a file. Raises OSError; EFBIG if it has more than ``limit`` bytes."""
    with os.fdopen(open_regular(name, dir_fd), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    return data
