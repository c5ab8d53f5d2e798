# SPDX-License-Identifier: Apache-2.0
"""Opens regular files that somebody else may have exchanged for something else."""

from __future__ import annotations

import errno
import os
import stat


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
