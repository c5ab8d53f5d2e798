# SPDX-License-Identifier: Apache-2.0
"""containers/storage's lock protocol, and our own lock against a second sync.

A lock file holds a 64-byte token of its last writer. Readers hold an fcntl read lock while they
load; a process that keeps what it loaded compares the token before it trusts it (containers/storage
``pkg/lockfile/lockfile_unix.go``, 1.43 to 1.64). These are POSIX locks: they belong to the process,
and closing *any* descriptor of the file drops them, so each file is opened once.

Whoever may read a lock file may hold it for ever. Our own is for the store's owner alone. podman's
must be as readable as the store: they are waited for with a limit, and their holder is named.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.store.layout import (
    LOCK_FILES,
    LOCKS,
    SYNC_LOCK,
    SYNC_LOCK_MODE,
    TOKEN_BYTES,
)
from podman_cvmfs.util.lock_holder import holder_of, named

log = logging.getLogger(__name__)

#: Seconds until a message names the process that we wait for, and until we give up. podman holds
#: its locks while it reads the store.
SILENT, PATIENCE = 5.0, 60.0
#: Seconds for which we try for each lock. While somebody keeps us from the second lock, podman
#: waits for the first one at most so long. Then, in the seconds of ``_TURN``, podman gets its turn.
_ATTEMPT, _TURN = 0.5, 0.05
#: Seconds between two attempts. They are short, because there is seldom a gap between two readers.
_PAUSE = 0.002


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
def _opened(path: str, flags: int, mode: int = 0o644) -> Iterator[int]:
    """A descriptor of the file ``path``. Raises OSError, but not for closing: by then the work is
    done and the lock is gone.

    A symbolic link or FIFO that somebody has put there is not written to."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


@contextlib.contextmanager
def podman_locked_out(store: str) -> Iterator[None]:
    """Hold the write locks on layers and images, with both tokens renewed. Raises OSError, and
    StoreError if somebody keeps us from them for long.

    They are renewed before the body changes anything. Otherwise a kill between the change and the
    renewal would leave running processes with the old content for ever. If the body raises OSError,
    readers see no change, and the old tokens are restored.
    """
    with contextlib.ExitStack() as stack:
        descriptors = [
            stack.enter_context(_opened(f"{store}/{LOCKS}/{name}", os.O_RDWR))
            for name in LOCK_FILES
        ]
        _lock_all(store, descriptors)
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


def _lock_all(store: str, descriptors: Sequence[int]) -> None:
    """Take the write locks of all these files, in order. Raises OSError, StoreError if another
    process holds one for long.

    We try again and again instead of waiting, for two reasons. A process that waits for a lock
    can't be woken up in time. And the kernel sees processes, not threads: if one thread of a podman
    reads under the second lock while another thread waits for the first, the kernel reports a
    deadlock with us.
    """
    started = time.monotonic()
    is_told = False
    while True:
        busy = _try_all(descriptors)
        if busy is None:
            return
        waited = time.monotonic() - started
        if waited < SILENT or (is_told and waited < PATIENCE):
            time.sleep(_TURN)
            continue
        holder = named(holder_of(busy))
        if waited >= PATIENCE:
            raise StoreError(
                f"{holder} has kept podman's lock on the store {printable(store)} "
                f"for {waited:.0f} seconds",
                "wait for that process to end, or end it; then try again",
            )
        log.warning(
            "waiting for podman's lock on the store %s, which %s holds", printable(store), holder
        )
        is_told = True


def _try_all(descriptors: Sequence[int]) -> int | None:
    """Take all these locks, or none; returns the first file whose lock can't be had."""
    for number, descriptor in enumerate(descriptors):
        deadline = time.monotonic() + _ATTEMPT
        while not _try(descriptor):
            if time.monotonic() > deadline:
                for each in descriptors[:number]:
                    fcntl.lockf(each, fcntl.LOCK_UN)
                return descriptor
            time.sleep(_PAUSE)
    return None


def _try(descriptor: int) -> bool:
    """Take a write lock if that can be done at once. Raises OSError."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def sync_lock(store: str) -> Iterator[None]:
    """Keep other syncs out of the store; StoreError at once if one is running. Raises OSError."""
    path = f"{store}/{LOCKS}/{SYNC_LOCK}"
    with _opened(path, os.O_WRONLY | os.O_CREAT, SYNC_LOCK_MODE) as descriptor:
        # Earlier versions let everybody read it, and so hold it.
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != SYNC_LOCK_MODE:
            os.fchmod(descriptor, SYNC_LOCK_MODE)
        if not _try(descriptor):
            raise StoreError(
                f"another sync is at work on the store {printable(store)}: "
                f"{named(holder_of(descriptor))}",
                "wait for it to end and try again",
            )
        yield
