# SPDX-License-Identifier: Apache-2.0
"""containers/storage's lock protocol, and our own lock against a second sync.

A lock file holds a 64-byte token of its last writer. Readers hold an fcntl read lock while they
load; a process that keeps what it loaded compares the token before it trusts it (containers/storage
``pkg/lockfile/lockfile_unix.go``, 1.43 to 1.64). These are POSIX locks: they belong to the process,
and closing *any* descriptor of the file drops them, so each file is opened once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.store.layout import LOCK_FILES, LOCKS, SYNC_LOCK, TOKEN_BYTES

#: How often we try for podman's locks if it looks like a deadlock, and the seconds between the
#: attempts.
_ATTEMPTS = 3000
_PAUSE = 0.01


def create_lock_files(store: str) -> None:
    """Make the missing lock files, each with a token.

    Raises OSError. With an empty lock file podman 4 would reload the store on every look-up.
    """
    for name in LOCK_FILES:
        path = f"{store}/{LOCKS}/{name}"
        if not os.path.exists(path) or os.path.getsize(path) != TOKEN_BYTES:
            with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
                os.write(descriptor, os.urandom(TOKEN_BYTES))


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """A descriptor of the file ``path``.

    Raises OSError, but not for closing: by then the work is done and the lock is gone. A symbolic
    link or FIFO that somebody has put there is not written to.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


@contextlib.contextmanager
def podman_locked_out(store: str) -> Iterator[None]:
    """Hold the write locks on layers and images, with both tokens renewed. Raises OSError.

    They are renewed before the body changes anything. Otherwise a kill between the change and the
    renewal would leave running processes with the old content for ever. If the body raises OSError,
    readers see no change, and the old tokens are restored.
    """
    with contextlib.ExitStack() as stack:
        descriptors = [
            stack.enter_context(_opened(f"{store}/{LOCKS}/{name}", os.O_RDWR))
            for name in LOCK_FILES
        ]
        _lock_all(descriptors)
        tokens = {each: os.pread(each, TOKEN_BYTES, 0) for each in descriptors}
        try:
            for descriptor in tokens:
                os.pwrite(descriptor, os.urandom(TOKEN_BYTES), 0)
            yield
        except OSError:
            for descriptor, token in tokens.items():
                with contextlib.suppress(OSError):
                    os.pwrite(descriptor, token, 0)
            raise


def _lock_all(descriptors: Sequence[int]) -> None:
    """Take the write locks of all these files, in order. Raises OSError.

    The kernel sees processes, not threads. If one thread of a podman reads under one lock while
    another thread waits for ours, the kernel reports a deadlock. It isn't one; containers/storage
    tries again, too.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            for descriptor in descriptors:
                fcntl.lockf(descriptor, fcntl.LOCK_EX)
            return
        except OSError as err:
            if err.errno != errno.EDEADLK or attempt == _ATTEMPTS:
                raise
        for descriptor in descriptors:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        time.sleep(_PAUSE)


@contextlib.contextmanager
def sync_lock(store: str) -> Iterator[None]:
    """Keep other syncs out of the store; StoreError at once if one is running. Raises OSError."""
    with _opened(f"{store}/{LOCKS}/{SYNC_LOCK}", os.O_WRONLY | os.O_CREAT) as descriptor:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise StoreError(
                f"another sync is at work on the store {printable(store)}",
                "wait for it to end and try again",
            ) from None
        yield
