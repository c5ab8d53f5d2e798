# SPDX-License-Identifier: Apache-2.0
"""The local directories that lie above an image's files.

When a container starts, podman and the OCI runtime make files and mount points in directories of
the image. Kernel overlayfs then copies each such directory up. Meanwhile it holds a lock of the
upper file system and asks the lower one for attributes. CernVM-FS may need the same lock to answer,
and then the machine hangs. The store's own directories, merged above the image's, are copied up
instead, so CernVM-FS isn't asked.

They also help ordinary users. A CernVM-FS client shows all files as owned by one user. The user's
namespace doesn't know this user, and kernel overlayfs lets nobody make a file in such a directory.
But the skeleton's directories are the user's own.

Which directories: the usual places that programs write to; the config's working directory, volumes
and user's home; the mount points of every container; and directories that the user can't read,
which are shown empty. They are looked up by name; no tree is walked. They have the image's
attributes, as far as these are known and can be set.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.customary import CUSTOMARY, STARTS
from podman_cvmfs.oci.documents import ImageConfig
from podman_cvmfs.repository.served import NoAnswerError
from podman_cvmfs.repository.tree import LinkedError, Tree, UnreadableError
from podman_cvmfs.repository.whiteouts import Markers, parents_of
from podman_cvmfs.store.records import Node

#: Each entry of these is checked for being a directory that the user can't read.
_LISTED = ("", "etc", "home", "opt", "run", "srv", "var", "var/cache", "var/lib", "var/log")
#: Root owns these in every image. If root owns no one of them here, the mount shows one owner for
#: all files.
_ROOTS_OWN = ("", "etc", "usr", "root", "bin", "var")
_MAX_PASSWD = 1024 * 1024
_MAX_LINKS = 40


@dataclass(frozen=True)
class Terms:
    """The facts that decide the attributes of directories: the user ID of the store's writer;
    whether the store is ``shared`` with other users; whether the files belong to a ``stranger``,
    that is to another user than a writer who isn't root; and the mount points of every
    container."""

    uid: int = 0
    shared: bool = False
    stranger: bool = False
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skeleton:
    """The directories, parents first, and the ``closed`` ones: the writer can't read them, so their
    content in the image isn't shown."""

    directories: tuple[Node, ...] = ()
    closed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShownRoot:
    """One of the directories that show an image, and the paths that it deletes from those below
    it."""

    tree: Tree
    markers: Markers = field(default_factory=Markers)

    def ends(self, path: str) -> bool:
        """Whether this directory hides everything below it at ``path``."""
        way = [*parents_of(path), path]
        if not {*self.markers.hidden, *self.markers.files, *self.markers.opaque}.isdisjoint(way):
            return True
        return any(self._is_no_directory(each) for each in way)

    def _is_no_directory(self, path: str) -> bool:
        attributes = self.lstat(path)
        return attributes is not None and not stat.S_ISDIR(attributes.st_mode)

    def lstat(self, path: str) -> os.stat_result | None:
        """The attributes of ``path`` in this directory alone; None if it is missing or can't be
        reached."""
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
        """``path`` without links; None if it isn't a directory."""
        found, is_whole = self.reach(path)
        return found if is_whole else None

    def reach(self, path: str) -> tuple[str, bool]:
        """The last directory on ``path``, without links, and whether it is the end of ``path``.
        Links are followed as in the container: a target that starts with ``/`` starts at the
        image's root."""
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
                return "/".join(current), False
            if stat.S_ISLNK(attributes.st_mode):
                links += 1
                target = self.readlink(here)
                if target is None or links > _MAX_LINKS:
                    return "/".join(current), False
                if target.startswith("/"):
                    current = []
                pending.extend(target.split("/")[::-1])
            elif stat.S_ISDIR(attributes.st_mode):
                current.append(part)
            else:
                return "/".join(current), False
        return "/".join(current), True

    def is_readable(self, path: str) -> bool:
        """Whether the user can list and enter ``path`` in each directory that shows it. overlayfs
        needs that in all of them."""
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
    roots: Sequence[ShownRoot],
    terms: Terms,
    config: ImageConfig | None = None,
    *,
    unread: Iterable[str] = (),
    lost_sticky: Iterable[str] = (),
    dated: bool = True,
    wanted: Sequence[str] = CUSTOMARY,
) -> Skeleton:
    """The skeleton above the directories ``roots``, topmost first, for the image ``config``; for a
    layer by itself without.

    ``unread`` are directories known to be closed to the writer, besides those found here.
    ``lost_sticky`` are open to everybody with a sticky bit that the repository has lost. ``dated``
    directories have the time of the image's. Directories in ``wanted`` that are missing or can't be
    reached are left out. Their nearest existing parent is included, because they would be made in
    it.
    """
    stack = _Stack(roots)
    user = _user_of(stack, config.user) if config is not None else None
    own = [] if config is None or user is None else [config.working_dir, user.home]
    volumes = () if config is None else config.volumes
    work = "" if config is None else config.working_dir
    paths = [*wanted, *lost_sticky, *unread, *volumes, work, *terms.mounts, *own]
    if terms.stranger:
        for path in _LISTED:
            paths.extend(stack.unreadable_below(path))
    found = {""}
    for each in paths:
        path = stack.reach(each)[0] if each else ""
        found.update([path, *parents_of(path)])
    look = _Look(
        terms,
        is_known=any(_is_roots(stack.lstat(path)) for path in _ROOTS_OWN),
        user=user,
        own=frozenset(stack.resolve(each) for each in own if each) - {"", None},
        sticky=frozenset(lost_sticky),
        dated=dated,
    )
    nodes: list[Node] = []
    closed: list[str] = []
    left_out: set[str] = set()
    for path in sorted(found, key=lambda path: path.split("/") if path else []):
        attributes = stack.lstat(path)
        if attributes is None or not left_out.isdisjoint(parents_of(path)):
            continue
        node = look.node(path, attributes)
        if node is None:
            left_out.add(path)
            continue
        nodes.append(node)
        if terms.stranger and not stack.is_readable(path):
            closed.append(path)
    return Skeleton(tuple(nodes), tuple(path for path in closed if path))


@functools.lru_cache(maxsize=65536)
def _node(path: str, mode: int, owner: tuple[int, int] | None, mtime_ns: int | None) -> Node:
    # Thousands of images share most of theirs.
    return Node(path, mode=mode, owner=owner, mtime_ns=mtime_ns)


@dataclass(frozen=True)
class _Look:
    """The attributes of the directories of one skeleton."""

    terms: Terms
    is_known: bool
    user: _User | None
    own: frozenset[str | None]
    sticky: frozenset[str]
    dated: bool

    def node(self, path: str, attributes: os.stat_result) -> Node | None:
        """The local directory at ``path``; None if it can't get the image's attributes."""
        mode = 0o1777 if path in self.sticky else attributes.st_mode & 0o7777
        owner = self._owner(path, attributes)
        if self.terms.shared:
            is_open = mode & 0o022 or mode & 0o005 != 0o005
            if (is_open or owner not in (None, (0, 0))) and path not in ("", *STARTS):
                return None
            mode, owner = mode & ~0o022 | 0o555, None
        elif self.terms.uid:
            # It belongs to the container's root. A user's own places must be open to that user.
            owner = None
            if self.terms.stranger and self.user is not None and path in self.own:
                mode = 0o1777
        return _node(path, mode, owner, attributes.st_mtime_ns if self.dated else None)

    def _owner(self, path: str, attributes: os.stat_result) -> tuple[int, int] | None:
        if self.is_known:
            return attributes.st_uid, attributes.st_gid
        if self.terms.uid and attributes.st_uid == self.terms.uid:
            return None
        if self.user is not None and path in self.own:
            return self.user.uid, self.user.gid
        return 0, 0


def _is_roots(attributes: os.stat_result | None) -> bool:
    return attributes is not None and attributes.st_uid == 0


@dataclass(frozen=True)
class _User:
    """The user that a config names, not root."""

    uid: int
    gid: int
    home: str | None


def _user_of(stack: _Stack, named: str) -> _User | None:
    """The config's ``USER``: a name or number, with or without group (OCI image-spec v1.1
    ``config.md``). None for root, and if the image doesn't know the name."""
    name, _, group = named.partition(":")
    if name in ("", "0", "root"):
        return None
    uid = int(name) if _is_id(name) else None
    gid, home = 0, None
    for fields in _records(stack, "etc/passwd", 6):
        if name in (fields[0], fields[2]) and all(map(_is_id, fields[2:4])):
            uid, gid, home = int(fields[2]), int(fields[3]), fields[5]
            break
    if _is_id(group):
        gid = int(group)
    for fields in _records(stack, "etc/group", 3) if group and not _is_id(group) else ():
        if fields[0] == group and _is_id(fields[2]):
            gid = int(fields[2])
            break
    # Larger IDs no system has.
    if uid is None or max(uid, gid) >= 1 << 32 or uid == 0:
        return None
    return _User(uid, gid, home)


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10


def _records(stack: _Stack, path: str, fields: int) -> Iterator[list[str]]:
    """The lines of passwd(5) or group(5) in the image, apart."""
    for root in stack.roots:
        try:
            data = root.tree.read(path, _MAX_PASSWD)
        except NoAnswerError:
            raise
        except RepositoryError:
            continue
        if data is None:
            continue
        for line in data.decode("utf-8", "surrogateescape").splitlines():
            found = line.split(":")
            if len(found) >= fields:
                yield found
        return
