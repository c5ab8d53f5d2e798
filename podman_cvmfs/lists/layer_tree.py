# SPDX-License-Identifier: Apache-2.0
"""From a layer's files as a repository has them to the layer as podman's pull would have it.

Repositories have whiteouts as files ``.wh.NAME``. ``repository.whiteouts`` says what they mean, and
finds them in a tree in memory as it does in a directory, without a question to the repository.
DUCC also loses the owners of a layer's files. The merged root of an image has them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from podman_cvmfs.lists.inodes import Inode, InodeTree
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.repository.whiteouts import Markers, scan


class _Name(os.PathLike):  # type: ignore[type-arg]
    """A name in a directory, with the methods of os.DirEntry that matter."""

    def __init__(self, name: str, mode: int) -> None:
        self.name = name
        self._mode = mode

    def __fspath__(self) -> str:
        return self.name

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISDIR(self._mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISREG(self._mode)

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._mode)


class _TreeInMemory(Tree):
    """An InodeTree with the methods of a directory that ``scan`` calls; ``shown`` is the owner that
    the file system shows for every file, None: each file's own."""

    def __init__(self, root: str, tree: InodeTree, shown: tuple[int, int] | None) -> None:
        super().__init__(root)
        self._tree, self._shown = tree, shown

    def _inode(self, relative: str) -> Inode | None:
        inode: Inode | None = self._tree.root
        for name in os.fsencode(relative).split(b"/") if relative else ():
            inode = None if inode is None or not inode.children else inode.children.get(name)
        return inode

    def entries(self, relative: str, required: bool = False) -> Iterator[os.DirEntry[str]]:
        inode = self._inode(relative)
        children = {} if inode is None or inode.children is None else inode.children
        for name, child in sorted((os.fsdecode(name), each) for name, each in children.items()):
            yield _Name(name, child.mode)  # type: ignore[misc]

    def lstat(self, relative: str) -> os.stat_result | None:
        inode = self._inode(relative)
        if inode is None:
            return None
        uid, gid = self._shown or (inode.uid, inode.gid)
        seconds = inode.mtime_ns // 1_000_000_000
        values = (inode.mode, 0, 0, 1, uid, gid, inode.size, seconds, seconds, seconds)
        more = {"st_mtime_ns": inode.mtime_ns, "st_rdev": inode.rdev}
        return os.stat_result(values, more)


def markers_in(tree: InodeTree, root: str, shown: tuple[int, int] | None = None) -> Markers:
    """The markers of a layer whose files are ``tree``; ``root`` is its directory, for messages.

    ``shown`` is the owner that the mount shows for every file, None: the files' own. Raises
    RepositoryError.
    """
    return scan(_TreeInMemory(root, tree, shown))


def apply_markers(tree: InodeTree, markers: Markers) -> None:
    """Replace the marker files in a layer by what they mean to overlayfs."""
    for path in markers.files:
        parent, name = _parent(tree, path)
        gone = None if parent is None else parent.pop(name, None)
        if parent is not None and gone is not None and gone.children is not None:
            # A directory with markers only, beside a marker for itself: the deletion wins.
            parent[name] = Inode(stat.S_IFCHR)
    for path in markers.hidden:
        parent, name = _parent(tree, path)
        if parent is not None:
            parent.setdefault(name, Inode(stat.S_IFCHR))
    for path in markers.opaque:
        inode = _directory(tree, path)
        if inode is not None:
            inode.is_opaque = True


def _directory(tree: InodeTree, path: str) -> Inode | None:
    inode: Inode | None = tree.root
    for name in os.fsencode(path).split(b"/") if path else ():
        inode = None if inode is None or not inode.children else inode.children.get(name)
    return inode if inode is not None and inode.children is not None else None


def _parent(tree: InodeTree, path: str) -> tuple[dict[bytes, Inode] | None, bytes]:
    """The content of the directory that holds ``path``, and the name in it."""
    above, _, name = path.rpartition("/")
    inode = _directory(tree, above)
    return (None if inode is None else inode.children), os.fsencode(name)


def has_lost_owners(tree: InodeTree) -> bool:
    """Whether all files belong to one user, and not to root: then the owners of the image's files
    are lost."""
    owners: set[tuple[int, int]] = set()
    pending = [tree.root]
    while pending:
        inode = pending.pop()
        owners.add((inode.uid, inode.gid))
        if len(owners) > 1:
            return False
        pending.extend((inode.children or {}).values())
    return owners != {(0, 0)}


def take_owners(tree: InodeTree, merged: InodeTree) -> None:
    """Give the files of a layer the owners that a merged root has at the same paths; root's where
    it has something else there, because upper layers have replaced or deleted that."""
    pending: list[tuple[Inode, Inode | None]] = [(tree.root, merged.root)]
    while pending:
        inode, other = pending.pop()
        if other is not None and stat.S_IFMT(other.mode) != stat.S_IFMT(inode.mode):
            other = None
        inode.uid, inode.gid = (0, 0) if other is None else (other.uid, other.gid)
        known = {} if other is None or other.children is None else other.children
        pending.extend((child, known.get(name)) for name, child in (inode.children or {}).items())
