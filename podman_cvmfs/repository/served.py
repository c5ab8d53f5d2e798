# SPDX-License-Identifier: Apache-2.0
"""Reads a repository that a program serves, as CernVM-FS's client does, and finds out when its
server is down.

Without its server a client still shows the files in its cache. Other reads fail, each after
seconds: 1.5 if the connection is refused, 4 without an answer (client 2.12). So after a few such
failures nobody asks the repository again.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.repository.layout import FILE_TREES
from podman_cvmfs.repository.tree import Tree

#: The errors if a server doesn't answer.
NO_ANSWER = {
    errno.EIO,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
}
#: The client itself has gone, and what it showed with it.
NO_CLIENT = {errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN}
#: An error that takes longer, in seconds, comes from waiting. A damaged object fails sooner.
_WAITED = 1.0
#: So many objects in turn fail at once only where no server is.
_MOST = 3
#: An extended attribute of a directory in CernVM-FS.
_COUNTER = re.compile(r"^([^:,\n]*)[:,](.*)$", re.MULTILINE)
_COUNTERS = "user.catalog_counters"
#: An answer that takes longer, in seconds, comes from the server.
_FETCHED = 0.005


class NoAnswerError(RepositoryError):
    """Something can't be read because the repository's server or client doesn't answer."""


class Health:
    """Whether the repository at ``root`` answers. All its readers share this knowledge."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._failed: set[str] = set()
        self._told: set[str] = set()
        self._outage: NoAnswerError | None = None
        self._under_way: dict[int, tuple[float, str]] = {}

    @property
    def outage(self) -> NoAnswerError | None:
        """The reason why nobody asks any more; None while it answers."""
        return self._outage

    def waited_for(self) -> tuple[str, float] | None:
        """The path whose answer has been waited for longest, and the seconds."""
        under_way = list(self._under_way.values())
        if not under_way:
            return None
        began, path = min(under_way)
        return path, time.monotonic() - began

    def is_news(self, path: str) -> bool:
        """Whether nobody has asked this about ``path`` before."""
        if path in self._told:
            return False
        self._told.add(path)
        return True

    def give_up(self, path: str, reason: str) -> NoAnswerError:
        """Stop asking, because ``path`` can't be read for this reason."""
        with self._lock:
            if self._outage is None:
                self._outage = NoAnswerError(
                    f"the repository {printable(self._root)} doesn't answer: can't read "
                    f"{printable(path)}: {reason}",
                    "check network, proxy and server (cvmfs_config probe); the rest of the "
                    "repository was not tried",
                )
            return self._outage

    @contextmanager
    def asking(self, path: str) -> Iterator[None]:
        """The body of the ``with`` statement is one question for ``path``. Raises NoAnswerError if
        there is no answer, or if nobody asks any more."""
        if self._outage is not None:
            raise self._outage
        thread, began = threading.get_ident(), time.monotonic()
        self._under_way[thread] = began, path
        try:
            yield
        except RepositoryError as err:
            self._judge(path, err, time.monotonic() - began)
        else:
            if self._failed and time.monotonic() - began > _FETCHED:
                self._failed.clear()
        finally:
            del self._under_way[thread]

    def _judge(self, path: str, error: RepositoryError, seconds: float) -> NoReturn:
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        if number not in NO_ANSWER | NO_CLIENT:
            raise error
        assert isinstance(cause, OSError)
        with self._lock:
            self._failed.add(path)
            is_down = number in NO_CLIENT or seconds > _WAITED or len(self._failed) >= _MOST
        if is_down:
            raise self.give_up(path, cause.strerror or str(cause)) from cause
        raise NoAnswerError(error.message, error.hint) from cause


class ServedTree(Tree):
    """A Tree that a program serves; ``health`` is shared by all trees of one repository."""

    def __init__(self, root: str, health: Health | None = None) -> None:
        super().__init__(root)
        self.health = health or Health(self.root)

    def at(self, relative: str) -> Tree:
        return ServedTree(self.path(relative), self.health)

    def size_of(self, relative: str) -> int | None:
        # The client (2.12, ``magic_xattr.cc``) tells what the catalogue has counted: in itself, and
        # in those nested in it. It is of the directory only if that has a catalogue of its own.
        with self.health.asking(self.path(relative)):
            try:
                told = os.getxattr(self.path(relative), _COUNTERS).decode("ascii", "replace")
            except OSError:
                return None
        lines = {match[1]: match[2] for match in _COUNTER.finditer(told)}
        own, nested = lines.get("self_file_size", ""), lines.get("subtree_file_size", "")
        is_its_own = lines.get("catalog_mountpoint", "").strip().endswith(f"/{relative}")
        # Other clients pass on attributes that the owner of the directory may set.
        if not is_its_own or not re.fullmatch("[0-9]{1,18},[0-9]{1,18}", f"{own},{nested}"):
            return None
        return int(own) + int(nested)

    def check(self, directory: str) -> None:
        with self.health.asking(self.path(directory)):
            super().check(directory)

    def entries(self, relative: str, required: bool = False) -> Iterator[os.DirEntry[str]]:
        with self.health.asking(self.path(relative)):
            listed = list(super().entries(relative, required))
        yield from listed

    def readlink(self, relative: str) -> str | None:
        with self.health.asking(self.path(relative)):
            return super().readlink(relative)

    def lstat(self, relative: str) -> os.stat_result | None:
        with self.health.asking(self.path(relative)):
            return super().lstat(relative)

    def read_head(self, relative: str, count: int) -> bytes | None:
        with self.health.asking(self.path(relative)):
            return super().read_head(relative, count)


def health_of(tree: Tree) -> Health | None:
    """The health of the repository of ``tree``; None for a plain directory."""
    return tree.health if isinstance(tree, ServedTree) else None


def open_tree(root: str) -> Tree:
    """The directory ``root``. Raises RepositoryError if it is missing or can't be listed.
    LinkedError if the path to all layers or merged roots contains a symbolic link: an older store
    then shows the link's target.
    """
    tree = ServedTree(root) if lies_on_fuse(root) else Tree(root)
    try:
        os.listdir(tree.root)
    except FileNotFoundError:
        raise RepositoryError(
            f"no such repository: {printable(tree.root)}",
            "is it mounted? name another one with --repository DIR",
        ) from None
    except NotADirectoryError:
        raise RepositoryError(
            f"not a repository: {printable(tree.root)} is not a directory",
            "name the repository's top directory with --repository DIR",
        ) from None
    except OSError as err:
        raise RepositoryError(
            f"can't read the repository {printable(tree.root)}: {err.strerror}"
        ) from err
    for part in FILE_TREES:
        tree.check(part)
    return tree


def lies_on_fuse(path: str) -> bool:
    """Whether a program serves the file system that holds ``path``, as CernVM-FS's client does."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            # proc(5): ID, parent, major:minor, .., a hyphen, the type of the file system.
            for line in file:
                fields = line.split()
                if fields[2] == f"{os.major(device)}:{os.minor(device)}":
                    return fields[fields.index("-") + 1].startswith("fuse")
    except (OSError, ValueError, IndexError):
        pass
    return False
