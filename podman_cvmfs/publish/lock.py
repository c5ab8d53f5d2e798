# SPDX-License-Identifier: Apache-2.0
"""Locks of publishers (flock): files that only their owner can open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.util.lock_holder import lock_holder

log = logging.getLogger(__name__)

#: Seconds until somebody who waits is told, and until the wait ends. A publisher holds the lock
#: while it moves finished directories, and while it removes those of one that was killed.
TELL_AFTER = 3.0
LIMIT = 300.0
_PAUSE = 0.05


def open_lock(name: str, dir_fd: int, what: str) -> int:
    """A descriptor of the lock file ``name`` in the open directory ``dir_fd``; made if missing.

    ``what`` is its name in messages. Raises OSError, or RepositoryError if it isn't a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
    except OSError as err:
        if err.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise _not_regular(what) from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise _not_regular(what)
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        # Versions before this one let all users open it, and so hold it.
        os.fchmod(fd, 0o600)
    return fd


def _not_regular(what: str) -> RepositoryError:
    return RepositoryError(f"{what} is not a regular file", "remove it and publish again")


@contextlib.contextmanager
def locked(name: str, dir_fd: int, what: str) -> Iterator[None]:
    """Hold the lock ``name``. RepositoryError, with the holder's name, if the wait is too long."""
    fd = open_lock(name, dir_fd, printable(what))
    try:
        _wait(fd, printable(what))
        yield
    finally:
        os.close(fd)


def _wait(fd: int, what: str) -> None:
    begun = time.monotonic()
    is_told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - begun
        if waited > LIMIT:
            raise RepositoryError(
                f"{lock_holder(fd)} has held the lock {what} for {LIMIT:.0f} seconds",
                "wait until that process ends, or end it, and publish again",
            )
        if waited > TELL_AFTER and not is_told:
            log.info("waiting for %s, which holds the lock %s", lock_holder(fd), what)
            is_told = True
        time.sleep(_PAUSE)
