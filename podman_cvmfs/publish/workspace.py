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
import fcntl
import os
import tempfile
from collections.abc import Iterator
from types import TracebackType

from podman_cvmfs.publish.unpack.safe_tree import remove, write_all

_LOCK = ".podman-cvmfs-lock"
_PREFIX = ".podman-cvmfs-tmp-"
_OWNER_LOCK = "lock"


class Workspace:
    """A private directory below the repository ``directory``, removed on leaving the context."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = ""
        self._owner_lock = -1
        self._count = 0

    def __enter__(self) -> Workspace:
        with self.locked():
            self._remove_abandoned()
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=self.directory)
            try:
                self._owner_lock = _lock_file(os.path.join(self.path, _OWNER_LOCK))
                fcntl.flock(self._owner_lock, fcntl.LOCK_EX)
            except OSError:
                self._remove(os.path.basename(self.path))
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
                self._remove(os.path.basename(self.path))
        finally:
            os.close(self._owner_lock)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock under which the repository changes."""
        fd = _lock_file(os.path.join(self.directory, _LOCK))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _remove_abandoned(self) -> None:
        for name in os.listdir(self.directory):
            if not name.startswith(_PREFIX):
                continue
            try:
                fd = os.open(os.path.join(self.directory, name, _OWNER_LOCK), os.O_RDWR)
            except FileNotFoundError:
                # Its owner died before it had a lock: both are made under the lock we hold.
                self._remove(name)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                self._remove(name)
            finally:
                os.close(fd)

    def _remove(self, name: str) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(os.fsencode(name), fd)
        finally:
            os.close(fd)

    def fresh(self) -> str:
        """A path in the workspace that nothing has yet."""
        self._count += 1
        return os.path.join(self.path, str(self._count))

    def directory_for(self, path: str) -> None:
        """Make the directories above ``path``, relative to the repository, open to all readers."""
        made = self.directory
        for part in os.path.dirname(path).split("/"):
            made = os.path.join(made, part)
            with contextlib.suppress(FileExistsError):
                os.mkdir(made)
                os.chmod(made, 0o755)

    def put_file(self, path: str, data: bytes) -> bool:
        """Let ``path``, relative to the repository, hold ``data``; False if it did already.

        After a power cut it holds what it did before, or ``data``: never nothing.
        """
        where = os.path.join(self.directory, path)
        if read_if_there(where) == data:
            return False
        prepared = self.fresh()
        write_file(prepared, data, is_durable=True)
        self.directory_for(path)
        os.replace(prepared, where)
        return True

    def put_link(self, path: str, target: str) -> bool:
        """Let ``path`` be a symbolic link to ``target``; False if it was already."""
        where = os.path.join(self.directory, path)
        if os.path.islink(where) and os.readlink(where) == target:
            return False
        prepared = self.fresh()
        os.symlink(target, prepared)
        self.directory_for(path)
        os.replace(prepared, where)
        return True

    def put_directory(self, prepared: str, path: str) -> bool:
        """Move the directory ``prepared`` to ``path``; False if another publisher was faster."""
        where = os.path.join(self.directory, path)
        if os.path.isdir(where):
            return False
        self.directory_for(path)
        os.rename(prepared, where)
        return True

    def flush(self) -> None:
        """Have all that was written on the disk before names point to it (syncfs(2))."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(self._owner_lock) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def write_file(path: str, data: bytes, is_durable: bool = False) -> None:
    """Write a new file that everybody may read; with ``is_durable`` it is then on the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, data)
        os.fchmod(fd, 0o644)
        if is_durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def read_if_there(path: str) -> bytes | None:
    """The contents of ``path``; None if there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lock_file(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
