# SPDX-License-Identifier: Apache-2.0
"""Finds the owners of repositories' files, and whose containers can use such files.

Kernel overlayfs shows a file with the owner it has in the repository. A CernVM-FS client gives all
files to one user by default (``CVMFS_CLAIM_OWNERSHIP``).
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterator, Sequence

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.repository.layout import FILE_TREES, ROOT_TREES
from podman_cvmfs.repository.tree import Tree

_FIRST_UID = 1000
_NOBODY = 65534
#: How many entries of a root file system are asked for their owner.
_SAMPLE = 30


def owner_of(tree: Tree) -> int | None:
    """The user who owns the files of a repository; None if unknown."""
    found = ids_of(tree)
    return None if found is None else found[0]


def ids_of(tree: Tree) -> tuple[int, int] | None:
    """The user and the group who own the files of a repository; None if unknown.

    Only the directory of all merged roots or layers is looked at.
    """
    for name in FILE_TREES:
        with contextlib.suppress(RepositoryError):
            attributes = tree.lstat(name)
            if attributes is not None:
                return attributes.st_uid, attributes.st_gid
    return None


def is_a_strangers(tree: Tree) -> bool:
    """Whether the directory at the root of ``tree`` belongs to another user than this one, or to a
    group that podman doesn't map for this user: then kernel overlayfs copies nothing of it up. Not
    for root, who needs nobody's leave. Raises RepositoryError."""
    if os.geteuid() == 0:
        return False
    found = tree.lstat("")
    return found is not None and (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid())


def have_lost_owners(layer: Tree) -> bool:
    """Whether the files of ``layer`` are shown as one user's, who is neither root nor this user.

    A CernVM-FS client claims all files for one user, or shows DUCC's layers as the repository's
    user's. Raises RepositoryError.
    """
    found = layer.lstat("")
    return found is not None and found.st_uid not in (0, os.geteuid())


def strangers_among(repositories: Sequence[str]) -> frozenset[str]:
    """Those of ``repositories`` whose files are a stranger's, as far as that can be told."""
    found = set()
    for tree in map(Tree, repositories):
        with contextlib.suppress(RepositoryError):
            if is_a_strangers(tree):
                found.add(tree.root)
    return frozenset(found)


def owner_of_first(repositories: Sequence[str]) -> tuple[str, int] | None:
    """The first of ``repositories`` with a known owner, and this owner; None if no owner is
    known."""
    for root in repositories:
        owner = owner_of(Tree(root))
        if owner is not None:
            return root, owner
    return None


def owners_in(root: str) -> tuple[int, ...]:
    """The users that some files of one image in the repository ``root`` belong to, in order.

    Raises OSError.
    """
    owners = set()
    for directory in itertools.islice(_file_systems(root), 1):
        owners.add(os.lstat(directory).st_uid)
        with os.scandir(directory) as entries:
            for entry in itertools.islice(entries, _SAMPLE):
                owners.add(entry.stat(follow_symlinks=False).st_uid)
    return tuple(sorted(owners))


def _file_systems(root: str) -> Iterator[str]:
    """Merged roots, or the files of layers."""
    for tree, below in ROOT_TREES:
        try:
            for group in sorted(os.listdir(f"{root}/{tree}")):
                for name in sorted(os.listdir(f"{root}/{tree}/{group}")):
                    directory = f"{root}/{tree}/{group}/{name}{below}"
                    if os.path.isdir(directory) and not os.path.islink(directory):
                        yield directory
        except (FileNotFoundError, NotADirectoryError):
            continue


def are_foreign(owners: Collection[int], uid: int) -> bool:
    """Whether files of these ``owners`` belong to somebody else than the user ``uid``."""
    return bool(owners) and uid not in owners


def serve_users(owners: Collection[int]) -> bool:
    """Whether an ordinary user's podman may start containers on files of these ``owners``, mounted
    by the kernel: one owner is an ordinary user, or no owner is known."""
    return not owners or any(map(is_ordinary, owners))


def is_ordinary(uid: int) -> bool:
    """Whether that is the user ID of an ordinary user."""
    return uid >= _FIRST_UID and uid != _NOBODY
