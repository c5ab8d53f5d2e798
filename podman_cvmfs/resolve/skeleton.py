# SPDX-License-Identifier: Apache-2.0
"""The local directories that lie above an image's files.

When a container starts, podman and the OCI runtime make files and mount points in directories of
the image. Kernel overlayfs then copies each such directory up. Meanwhile it holds a lock of the
upper file system and asks the lower one for attributes. CernVM-FS may need the same lock to answer,
and then the machine hangs. The store's own directories, merged above the image's, are copied up
instead, so CernVM-FS isn't asked.

They also help ordinary users. A CernVM-FS client shows all files as owned by one user. The user's
namespace doesn't know this user, and kernel overlayfs lets nobody make a file in such a directory.
But the skeleton's directories are the user's own. If the files are the user's own, too, they are
root's in the container. In both cases only a skeleton can let the image's own user write in its
home, working directory and volumes.

Which directories: the usual places that programs write to; the config's working directory, volumes
and user's home; the mount points of every container; and, of a stranger's files, directories in
which everybody may write, and those that the user can't read, which are shown empty. They are
looked up by name; no tree is walked. They have the image's attributes, as far as these are known
and can be set.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podman_cvmfs.oci.customary import CUSTOMARY, DATABASES, FETCHED, STARTS
from podman_cvmfs.oci.documents import ImageConfig
from podman_cvmfs.repository.whiteouts import parents_of
from podman_cvmfs.resolve.accounts import User, copies_of, user_of
from podman_cvmfs.resolve.shown import ShownRoot, Stack
from podman_cvmfs.store.records import Node

#: Each entry of these is checked for being a directory that the user can't read, or in which
#: everybody may write.
_LISTED = ("", "etc", "home", "opt", "run", "srv", "var", "var/cache", "var/lib", "var/log")
#: Root owns these in every image. If root owns no one of them here, the mount shows one owner for
#: all files.
_ROOTS_OWN = ("", "etc", "usr", "root", "bin", "var")


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
    """The directories, parents first; the ``closed`` ones: the writer can't read them, so their
    content in the image isn't shown; and copies of the account and lock ``files``. ``bundles`` are
    files in the root directory that belong to CernVM-FS and not to the image."""

    directories: tuple[Node, ...] = ()
    closed: tuple[str, ...] = ()
    files: tuple[Node, ...] = ()
    bundles: tuple[str, ...] = ()


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
    stack = Stack(roots)
    user = user_of(stack, config.user) if config is not None else None
    volumes = () if config is None else config.volumes
    # Where the image's user writes, if nobody knows whose directories these are.
    own = [] if config is None or user is None else [config.working_dir, user.home, *volumes]
    work = "" if config is None else config.working_dir
    paths = [*wanted, *lost_sticky, *unread, *volumes, work, *terms.mounts, *own]
    if terms.stranger:
        paths += (*FETCHED, *DATABASES)
        for path in _LISTED:
            paths.extend(stack.notable_below(path))
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
    there = {node.path for node in nodes}
    has_copies = terms.stranger and config is not None
    copies = copies_of(stack) if has_copies else ()
    files = [look.file(each) for each in copies if os.path.dirname(each.path) in there]
    # Listing each directory would take more than twice as long as all the rest of this function.
    bundles = () if "" in closed else tuple(sorted({*stack.bundles_in("")}))
    closed = [path for path in closed if path]
    return Skeleton(tuple(nodes), tuple(closed), tuple(files), bundles)


@functools.lru_cache(maxsize=65536)
def _node(path: str, mode: int, owner: tuple[int, int] | None, mtime_ns: int | None) -> Node:
    # Thousands of images share most of theirs.
    return Node(path, mode=mode, owner=owner, mtime_ns=mtime_ns)


@dataclass(frozen=True)
class _Look:
    """The attributes of the directories of one skeleton."""

    terms: Terms
    is_known: bool
    user: User | None
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
            # It belongs to the container's root. The places of the image's user must be open to it.
            owner = None
            if self.user is not None and path in self.own:
                mode = 0o1777
        return _node(path, mode, owner, attributes.st_mtime_ns if self.dated else None)

    def file(self, node: Node) -> Node:
        """A local file as it may be."""
        return node._replace(mode=node.mode & ~0o022) if self.terms.shared else node

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
