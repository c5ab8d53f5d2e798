# SPDX-License-Identifier: Apache-2.0
"""The only module that reads files of a repository.

It handles everything that CernVM-FS does differently from a local disk: reads that fail with EIO
after a network time-out, files that vanish between listing and reading, and untrusted content (a
FIFO where a file is expected, a link leading out). Tests inject faults by replacing this class's
methods.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NoReturn

from podman_cvmfs.errors import RepositoryError, printable

#: What isn't there. A name with NUL or half a surrogate pair in it, which images may ask for, no
#: file has: that is a ValueError.
_ABSENT = (FileNotFoundError, NotADirectoryError, ValueError)
#: How many directories are remembered to be no links; most are looked at for one image only.
_REMEMBERED = 4096


class UnreadableError(RepositoryError):
    """Something is there, and the caller isn't allowed to read it."""


class LinkedError(RepositoryError):
    """A symbolic link is where a directory is expected: it may lead anywhere."""


class Tree:
    """Read-only access to the directory tree at ``root``, by paths relative to it.

    The answer for a missing file is None, because files may vanish at any time. Every other failure
    is a RepositoryError that names the path. A path over a symbolic link is a LinkedError, wherever
    the link leads. Only the path of ``root`` itself may contain links.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._plain: set[str] = set()

    def path(self, relative: str) -> str:
        """The absolute path of ``relative``."""
        return f"{self.root}/{relative}" if relative else self.root

    def at(self, relative: str) -> Tree:
        """The tree at the directory ``relative``, which becomes its root."""
        return Tree(self.path(relative))

    def size_of(self, relative: str) -> int | None:
        """The bytes in all files below the directory ``relative``; None if nobody has counted."""
        return None

    def _fail(self, relative: str, err: OSError | ValueError) -> NoReturn:
        kind = UnreadableError if isinstance(err, PermissionError) else RepositoryError
        reason = (err.strerror if isinstance(err, OSError) else None) or printable(str(err))
        raise kind(
            f"can't read {printable(self.path(relative))}: {reason}",
            "check that the repository is mounted and readable (ls, cvmfs_config probe)",
        ) from err

    def check(self, directory: str) -> None:
        """Raise LinkedError if ``directory``, or one on the way to it, is a symbolic link."""
        try:
            self._check_way(directory)
        except _ABSENT:
            pass
        except OSError as err:
            self._fail(directory, err)

    def _check_way(self, directory: str) -> None:
        """Raise LinkedError if ``directory`` or one above it is a symbolic link, OSError.

        The kernel looks at each of them anyway to find what is below, so this has CernVM-FS fetch
        nothing more.
        """
        unknown = []
        while directory and directory not in self._plain:
            unknown.append(directory)
            directory = directory.rpartition("/")[0]
        for each in reversed(unknown):
            if stat.S_ISLNK(os.lstat(self.path(each)).st_mode):
                raise LinkedError(
                    f"{printable(self.path(each))} is a symbolic link, not a directory: "
                    "it is not followed"
                )
            if len(self._plain) >= _REMEMBERED:
                self._plain.clear()
            self._plain.add(each)

    def entries(self, relative: str, required: bool = False) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a directory in order of name.

        A missing directory has no entries. If it is ``required``, because it was just listed, it is
        a RepositoryError.
        """
        try:
            self._check_way(relative)
            with os.scandir(self.path(relative)) as found:
                listed = sorted(found, key=lambda entry: entry.name)
        except _ABSENT as err:
            if required:
                self._fail(relative, err)
            return
        except OSError as err:
            self._fail(relative, err)
        yield from listed

    def is_empty(self, directory: str) -> bool:
        """Whether ``directory`` has no entries, apart from CernVM-FS's own. False if the caller
        isn't allowed to list it. Raises RepositoryError."""
        try:
            return all(entry.name.startswith(".cvmfs") for entry in self.entries(directory))
        except UnreadableError:
            return False

    def readlink(self, relative: str) -> str | None:
        """The target of a symbolic link; None if nothing or something else is there."""
        try:
            self._check_way(os.path.dirname(relative))
            return os.readlink(self.path(relative))
        except _ABSENT:
            return None
        except OSError as err:
            if err.errno == 22:  # EINVAL: not a link
                return None
            self._fail(relative, err)

    def lstat(self, relative: str) -> os.stat_result | None:
        """The attributes of a file, without following a final link; None if it isn't there."""
        try:
            self._check_way(os.path.dirname(relative))
            return os.lstat(self.path(relative))
        except _ABSENT:
            return None
        except OSError as err:
            self._fail(relative, err)

    def read(self, relative: str, limit: int) -> bytes | None:
        """The content of a regular file of at most ``limit`` bytes; None if it isn't there.

        A final symbolic link is not followed, and opening never blocks on a FIFO.
        """
        data = self.read_head(relative, limit + 1)
        if data is not None and len(data) > limit:
            raise RepositoryError(
                f"{printable(self.path(relative))} has more than {limit} bytes, too many to read"
            )
        return data

    def read_head(self, relative: str, count: int) -> bytes | None:
        """The first ``count`` bytes of a regular file, or all of a shorter one; None if it isn't
        there."""
        try:
            self._check_way(os.path.dirname(relative))
            descriptor = os.open(
                self.path(relative), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except _ABSENT:
            return None
        except OSError as err:
            self._fail(relative, err)
        try:
            attributes = os.fstat(descriptor)
            if not stat.S_ISREG(attributes.st_mode):
                raise RepositoryError(f"{printable(self.path(relative))} is not a regular file")
            # Asking for one byte more shows whether the file grows meanwhile.
            data = os.read(descriptor, min(count, attributes.st_size + 1))
            while len(data) < min(count, attributes.st_size):
                more = os.read(descriptor, count - len(data))
                if not more:
                    break
                data += more
        except OSError as err:
            self._fail(relative, err)
        finally:
            os.close(descriptor)
        return data
