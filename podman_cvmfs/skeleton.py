# SPDX-License-Identifier: Apache-2.0
"""The directories that rootless podman must own above an image whose files belong to a stranger.

A CernVM-FS client shows every file as owned by one user, whom an ordinary user's namespace doesn't
know. Kernel overlayfs then lets nobody make a file in the image's directories, and podman, which
makes ``/etc/mtab`` and mount points, can't start. Directories of the user's own, merged above the
image's, cure that: new files go into them. Files of the image still can't be changed, since
overlayfs would have to copy them up with their unknown owner.

Which directories: those that programs write to by custom, what the config names (working directory,
volumes, the user's home), and those that the user can't read, which are shown empty. They are found
by asking for their names; nothing is walked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.markers import Markers, parents_of
from podman_cvmfs.oci import ImageConfig
from podman_cvmfs.tree import LinkedError, Tree, UnreadableError

#: Where podman itself makes files and mount points, and where programs expect to write.
_CUSTOMARY = (
    *("", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp"),
    *("usr", "usr/local", "var", "var/cache", "var/lib", "var/log", "var/run", "var/spool"),
    *("var/tmp", "cvmfs", "run/lock", "etc/containers"),
)
#: Their entries are looked at, one by one, for directories the user can't read.
_LISTED = ("", "etc", "home", "opt", "run", "srv", "var", "var/cache", "var/lib", "var/log")
_MAX_PASSWD = 1024 * 1024
_MAX_LINKS = 40


@dataclass(frozen=True)
class SkeletonDirectory:
    """A directory of the image: its path ("" is the root), its permission bits, and whether the
    user may list and enter the image's own."""

    path: str
    mode: int
    readable: bool


@dataclass(frozen=True)
class ShownRoot:
    """One of the directories that show an image, and what it deletes from those below it."""

    tree: Tree
    markers: Markers = field(default_factory=Markers)

    def ends(self, path: str) -> bool:
        """Whether nothing of the directories below this one shows at ``path``."""
        way = [*parents_of(path), path]
        if not {*self.markers.hidden, *self.markers.files, *self.markers.opaque}.isdisjoint(way):
            return True
        return any(self._is_no_directory(each) for each in way)

    def _is_no_directory(self, path: str) -> bool:
        attributes = self.lstat(path)
        return attributes is not None and not stat.S_ISDIR(attributes.st_mode)

    def lstat(self, path: str) -> os.stat_result | None:
        """What is at ``path`` in this directory alone, None if nothing or it can't be reached."""
        gone = {*self.markers.files}
        if not gone.isdisjoint([path, *parents_of(path)]):
            return None
        try:
            return self.tree.lstat(path)
        except (UnreadableError, LinkedError):
            return None


class _Stack:
    """The directories that show an image, topmost first, asked as one root file system."""

    def __init__(self, roots: Sequence[ShownRoot]) -> None:
        self.roots = roots

    def _shown(self, path: str) -> Iterator[ShownRoot]:
        """The directories that take part in showing ``path``."""
        for root in self.roots:
            yield root
            if root.ends(path):
                return

    def lstat(self, path: str) -> os.stat_result | None:
        for root in self._shown(path):
            attributes = root.lstat(path)
            if attributes is not None:
                return attributes
        return None

    def readlink(self, path: str) -> str | None:
        for root in self._shown(path):
            if root.lstat(path) is not None:
                return root.tree.readlink(path)
        return None

    def resolve(self, path: str) -> str | None:
        """``path`` without links, as a process in the container would follow them; None if it is
        no directory. A target that starts with ``/`` starts at the image's root."""
        pending = path.split("/")[::-1]
        current: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del current[-1:]
                continue
            here = "/".join([*current, part])
            attributes = self.lstat(here)
            if attributes is None:
                return None
            if stat.S_ISLNK(attributes.st_mode):
                links += 1
                target = self.readlink(here)
                if target is None or links > _MAX_LINKS:
                    return None
                if target.startswith("/"):
                    current = []
                pending.extend(target.split("/")[::-1])
            elif stat.S_ISDIR(attributes.st_mode):
                current.append(part)
            else:
                return None
        return "/".join(current)

    def is_readable(self, path: str) -> bool:
        """Whether the user can list and enter the directory ``path`` everywhere it is shown from:
        overlayfs must be able to with all."""
        for root in self._shown(path):
            attributes = root.lstat(path)
            is_directory = attributes is not None and stat.S_ISDIR(attributes.st_mode)
            if is_directory and not os.access(root.tree.path(path), os.R_OK | os.X_OK):
                return False
        return True

    def unreadable_below(self, path: str) -> Iterable[str]:
        """The directories right below ``path`` that the user can't list and enter."""
        for root in self._shown(path):
            try:
                entries = list(root.tree.entries(path))
            except (UnreadableError, LinkedError):
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not os.access(
                    entry.path, os.R_OK | os.X_OK
                ):
                    yield f"{path}/{entry.name}" if path else entry.name


def skeleton_of(
    roots: Sequence[ShownRoot], config: ImageConfig, unread: Iterable[str] = ()
) -> tuple[SkeletonDirectory, ...]:
    """The skeleton of an image that the directories ``roots`` show, topmost first.

    ``unread`` are directories known to be closed to the user, besides those found here. Parents
    come before what they hold. What isn't there or can't be reached is left out.
    """
    stack = _Stack(roots)
    own = [config.working_dir, _home_of(stack, config.user)]
    wanted = [*_CUSTOMARY, *unread, *config.volumes, *own]
    for path in _LISTED:
        wanted.extend(stack.unreadable_below(path))
    paths: set[str] = set()
    for each in wanted:
        path = (stack.resolve(each) if each else None) or ""
        while path:
            paths.add(path)
            path = path.rpartition("/")[0]
    # The skeleton belongs to the container's root; another user's own places must be open to him.
    is_root = config.user.partition(":")[0] in ("", "0", "root")
    opened = set() if is_root else {stack.resolve(each) for each in own if each} - {"", None}
    found = []
    for path in ["", *sorted(paths)]:
        attributes = stack.lstat(path)
        if attributes is not None:
            mode = 0o1777 if path in opened else attributes.st_mode & 0o7777
            found.append(SkeletonDirectory(path, mode, stack.is_readable(path)))
    return tuple(found)


def _home_of(stack: _Stack, user: str) -> str | None:
    """The home directory of the config's ``USER`` (a name or number, with or without group)."""
    name = user.partition(":")[0] or "0"
    for root in stack.roots:
        try:
            data = root.tree.read("etc/passwd", _MAX_PASSWD)
        except RepositoryError:
            continue
        for line in (data or b"").decode("utf-8", "surrogateescape").splitlines():
            fields = line.split(":")
            if len(fields) >= 6 and name in (fields[0], fields[2]):
                return fields[5]
    return None
