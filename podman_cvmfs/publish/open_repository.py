# SPDX-License-Identifier: Apache-2.0
"""The repository that is published into, as an open directory.

Everything is reached from its descriptor, part by part, and no symbolic link is followed. Otherwise
somebody who put a link there could decide which files of the host are read or written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.util.below import OPEN_DIRECTORY, read_regular

#: The largest of our documents lists the directories that a layer doesn't mention.
_MAX_DOCUMENT = 256 << 20


class OpenRepository:
    """The directory ``path``, which must exist. To be used in a ``with`` statement.

    What isn't in it is read from the repository in the directory ``below``, if that is given.
    Nothing is written there. Paths have "/" and no "..". All methods raise OSError if the disk
    fails, and RepositoryError if something else is in the place of a directory or a file.
    """

    def __init__(self, path: str, below: str | None = None) -> None:
        self.path = path
        # Links on the way to it are the caller's own choice.
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.below = None if below is None else OpenRepository(below)
        except OSError:
            os.close(self.fd)
            raise

    def __enter__(self) -> OpenRepository:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)
        if self.below is not None:
            os.close(self.below.fd)

    def shown(self, path: str) -> str:
        """``path`` for a message."""
        return printable(os.path.join(self.path, path))

    @contextlib.contextmanager
    def above(self, path: str, make: bool = False) -> Iterator[int]:
        """The open directory that holds ``path``. Raises FileNotFoundError if it is missing.

        With ``make`` missing directories are made, readable for all who reach the repository.
        RepositoryError for a path that leads out: others write records with paths, too.
        """
        if ".." in path.split("/"):
            raise RepositoryError(f"the path {printable(path)[:300]} leads out of {self.shown('')}")
        fd = os.dup(self.fd)
        try:
            parts = path.split("/")[:-1]
            for number, part in enumerate(parts):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=fd)
                        # Whatever the umask is. It was made just now, by us, and not as a link.
                        os.chmod(part, 0o755, dir_fd=fd)
                with self._told(path, "/".join(parts[: number + 1]), "directory"):
                    deeper = os.open(part, OPEN_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _told(self, path: str, part: str, wanted: str) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            if err.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO):
                raise
            with contextlib.suppress(OSError):
                if stat.S_ISLNK(os.lstat(part, dir_fd=self.fd).st_mode):
                    raise RepositoryError(
                        f"{self.shown(part)} is a symbolic link, where a {wanted} must be",
                        "remove the link and publish again",
                    ) from None
            raise RepositoryError(f"{self.shown(part)} is not a {wanted}") from None

    def read(self, path: str) -> bytes | None:
        """The contents of the regular file ``path``; None if there is no such file."""
        try:
            with self.above(path) as fd, self._told(path, path, "regular file"):
                return read_regular(os.path.basename(path), fd, _MAX_DOCUMENT)
        except FileNotFoundError:
            return None if self.below is None else self.below.read(path)

    def names(self, path: str) -> list[str]:
        """The names in the directory ``path``, in order; "" is the repository itself.

        There are no names where there is no directory.
        """
        found = set() if self.below is None else set(self.below.names(path))
        try:
            fd = os.open(".", OPEN_DIRECTORY, dir_fd=self.fd) if not path else self._own(path)
        except (FileNotFoundError, RepositoryError):
            return sorted(found)
        try:
            return sorted(found.union(os.listdir(fd)))
        finally:
            os.close(fd)

    def link_target(self, path: str) -> str | None:
        """The target of the symbolic link ``path``; None if there is no link."""
        try:
            with self.above(path) as fd:
                return os.readlink(os.path.basename(path), dir_fd=fd)
        except FileNotFoundError:
            return None if self.below is None else self.below.link_target(path)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            return None

    def has_directory(self, path: str) -> bool:
        """Whether ``path`` is there. Anything else than a directory is a RepositoryError."""
        try:
            os.close(self.open_directory(path))
        except FileNotFoundError:
            return False
        return True

    def open_directory(self, path: str) -> int:
        """A descriptor of the directory ``path``, to be closed by the caller."""
        try:
            return self._own(path)
        except FileNotFoundError:
            if self.below is None:
                raise
            return self.below.open_directory(path)

    def _own(self, path: str) -> int:
        """A descriptor of the directory ``path`` that isn't one below."""
        with self.above(path) as fd, self._told(path, path, "directory"):
            return os.open(os.path.basename(path), OPEN_DIRECTORY, dir_fd=fd)
