# SPDX-License-Identifier: Apache-2.0
"""A directory in the repository where things are prepared, and the lock under which they move.

Layout::

    DIR/.podman-cvmfs-lock          held (flock) while something changes that others may see
    DIR/.podman-cvmfs-tmp-XXXXXXXX/ prepared things; everything in it may vanish at any time
        lock                        held (flock) as long as its owner lives

A publisher that was killed leaves its directory; the next one, finding its lock free, removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from types import TracebackType

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.publish.lock import locked, open_lock
from podman_cvmfs.publish.open_repository import OpenRepository
from podman_cvmfs.publish.unpack.safe_tree import remove, write_all

LOCK_FILE = ".podman-cvmfs-lock"
_PREFIX = ".podman-cvmfs-tmp-"
_OWNER_LOCK = "lock"


class Workspace:
    """A private directory in the repository, open as ``fd``, removed on leaving the context."""

    def __init__(self, repository: OpenRepository) -> None:
        self.repository = repository
        self.fd = -1
        self._name = ""
        self._owner_lock = -1
        self._count = 0

    def __enter__(self) -> Workspace:
        with self.locked():
            self._remove_abandoned()
            self._name = _PREFIX + secrets.token_hex(4)
            os.mkdir(self._name, 0o700, dir_fd=self.repository.fd)
            try:
                self.fd = self.repository.open_directory(self._name)
                what = self.repository.shown(f"{self._name}/{_OWNER_LOCK}")
                self._owner_lock = open_lock(_OWNER_LOCK, self.fd, what)
                fcntl.flock(self._owner_lock, fcntl.LOCK_EX)
            except OSError:
                self._remove(self._name)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # Nobody else may take it for abandoned while it is half removed.
            with self.locked():
                self._remove(self._name)
        finally:
            os.close(self._owner_lock)
            os.close(self.fd)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock under which the repository changes. Raises OSError or RepositoryError."""
        with locked(LOCK_FILE, self.repository.fd, self.repository.shown(LOCK_FILE)):
            yield

    def _remove_abandoned(self) -> None:
        for name in os.listdir(self.repository.fd):
            if not name.startswith(_PREFIX):
                continue
            try:
                place = self.repository.open_directory(name)
            except RepositoryError:
                # A link or a file: no publisher's.
                continue
            try:
                fd = os.open(_OWNER_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
            except OSError as err:
                if err.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                # Its owner died before it had a lock: both are made under the lock we hold. A link
                # is no publisher's.
                self._remove(name)
                continue
            finally:
                os.close(place)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                self._remove(name)
            finally:
                os.close(fd)

    def _remove(self, name: str) -> None:
        remove(os.fsencode(name), self.repository.fd)

    def fresh(self) -> str:
        """An unused name in the workspace."""
        self._count += 1
        return str(self._count)

    def put_file(self, path: str, data: bytes) -> bool:
        """Write ``data`` to ``path``, relative to the repository; False if it already had this
        content.

        After a power cut it has the old content or ``data``, but is never empty.
        """
        if self.repository.read(path) == data:
            return False
        prepared = self.fresh()
        write_file(prepared, self.fd, data, is_durable=True)
        self._put(prepared, path)
        return True

    def put_link(self, path: str, target: str) -> bool:
        """Make ``path`` a symbolic link to ``target``; False if it already was."""
        if self.repository.link_target(path) == target:
            return False
        prepared = self.fresh()
        os.symlink(target, prepared, dir_fd=self.fd)
        self._put(prepared, path)
        return True

    def _put(self, prepared: str, path: str) -> None:
        with self.repository.above(path, make=True) as above:
            os.replace(prepared, os.path.basename(path), src_dir_fd=self.fd, dst_dir_fd=above)

    def put_directory(self, prepared: str, path: str) -> bool:
        """Move the directory ``prepared`` to ``path``; False if another publisher was faster."""
        if self.repository.has_directory(path):
            return False
        with self.repository.above(path, make=True) as above:
            os.rename(prepared, os.path.basename(path), src_dir_fd=self.fd, dst_dir_fd=above)
        return True

    def flush(self) -> None:
        """Have all that was written on the disk before names point to it (syncfs(2))."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(self._owner_lock) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def write_file(path: str, dir_fd: int, data: bytes, is_durable: bool = False) -> None:
    """Write a new file that everybody may read; with ``is_durable`` it is then on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644, dir_fd=dir_fd)
    try:
        write_all(fd, data)
        os.fchmod(fd, 0o644)
        if is_durable:
            os.fsync(fd)
    finally:
        os.close(fd)
