# SPDX-License-Identifier: Apache-2.0
"""A directory that is open, and that moves through a tree one step at a time.

Opening each directory of a tree by its path from the root costs the square of the tree's depth.
A cursor that is moved in the order of the tree opens each directory once or twice.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType

from podman_cvmfs.util.below import OPEN_DIRECTORY


class Cursor:
    """A directory at or below ``root``, a descriptor that stays the caller's.

    No symbolic link is followed: a move raises OSError (ENOTDIR or ENOENT) instead, and the cursor
    stays where it has come to. To be used in a ``with`` statement.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self.fd = os.open(b".", OPEN_DIRECTORY, dir_fd=root)
        self._names: list[bytes] = []
        #: Which directory each level is, from the root on: the way back must lead there.
        self._known = [self._identity(self.fd)]

    def __enter__(self) -> Cursor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)

    @staticmethod
    def _identity(fd: int) -> tuple[int, int]:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino

    def _now(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd

    def down(self, name: bytes) -> None:
        """Enter the directory ``name`` in this one."""
        self._now(os.open(name, OPEN_DIRECTORY, dir_fd=self.fd))
        self._names.append(name)
        self._known.append(self._identity(self.fd))

    def up(self) -> bytes:
        """Go to the directory above, and return the name of the one that is left."""
        above = os.open(b"..", OPEN_DIRECTORY, dir_fd=self.fd)
        if self._identity(above) != self._known[-2]:
            os.close(above)
            raise OSError(errno.ESTALE, "a directory was moved while it was read")
        self._now(above)
        self._known.pop()
        return self._names.pop()

    def move(self, path: bytes) -> int:
        """Go to the directory ``path`` below the root (b"" is the root), and return ``fd``."""
        parts = path.split(b"/") if path else []
        common = 0
        for ours, theirs in zip(self._names, parts):
            if ours != theirs:
                break
            common += 1
        if len(self._names) - common > common:
            # It is shorter to begin anew.
            self._now(os.open(b".", OPEN_DIRECTORY, dir_fd=self._root))
            del self._names[:], self._known[1:]
        while len(self._names) > common:
            self.up()
        for part in parts[len(self._names) :]:
            self.down(part)
        return self.fd
