# SPDX-License-Identifier: Apache-2.0
"""Reads the files below a directory one by one, where no catalogue tells them."""

from __future__ import annotations

import os
import stat

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.lists.inodes import ENTRY, Inode, InodeTree
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.repository.whiteouts import is_bundle

#: Other attributes are the file system's own.
_KEPT = ("user.", "security.capability", "system.posix_acl_", "trusted.overlay.opaque")
#: A CernVM-FS client's own, and those of overlayfs.
_SIGN = ".cvmfscatalog"


def tree_of(tree: Tree, is_served: bool) -> InodeTree:
    """The files below the root of ``tree``; ``is_served`` ones have no attributes of their own, no
    hard links, and a sign of the publisher's in the root.

    Every file is asked for. Raises RepositoryError, also for what the caller can't read, and
    InputError for too many files.
    """
    found = tree.lstat("")
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise RepositoryError(f"{tree.root} is no directory")
    made = InodeTree(_inode(tree, "", found, is_served))
    linked: dict[tuple[int, int], Inode] = {}
    pending = [("", made.root)]
    while pending:
        directory, inode = pending.pop()
        assert inode.children is not None
        names = [entry.name for entry in tree.entries(directory, required=True)]
        for name in names:
            if (is_served and not directory and name == _SIGN) or is_bundle(name, names):
                continue
            path = f"{directory}/{name}" if directory else name
            made.spend(ENTRY + len(name))
            attributes = tree.lstat(path)
            if attributes is None:
                raise RepositoryError(f"{tree.path(path)} vanished while it was read")
            key = (attributes.st_dev, attributes.st_ino)
            is_shared = attributes.st_nlink > 1 and not stat.S_ISDIR(attributes.st_mode)
            child = linked.get(key) if is_shared else None
            if child is None:
                child = _inode(tree, path, attributes, is_served)
                if is_shared:
                    linked[key] = child
            else:
                child.is_linked = True
            inode.children[os.fsencode(name)] = child
            if child.children is not None:
                pending.append((path, child))
    return made


def _inode(tree: Tree, path: str, found: os.stat_result, is_served: bool) -> Inode:
    inode = Inode(found.st_mode)
    inode.uid, inode.gid, inode.mtime_ns = found.st_uid, found.st_gid, found.st_mtime_ns
    if stat.S_ISREG(found.st_mode):
        inode.size = found.st_size
    elif stat.S_ISLNK(found.st_mode):
        target = os.fsencode(tree.readlink(path) or "")
        if not target:
            raise RepositoryError(f"{tree.path(path)} vanished while it was read")
        inode.target, inode.size = target, len(target)
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        inode.rdev = found.st_rdev
    if not is_served:
        inode.set_xattrs(_xattrs(tree.path(path)))
    return inode


def _xattrs(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in names
            if name.startswith(_KEPT)
        }
    except OSError:
        # A file system without attributes, or one just changed by its owner.
        return {}
