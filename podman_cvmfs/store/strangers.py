# SPDX-License-Identifier: Apache-2.0
"""Finds files that other users have put into a store, and removes them.

Local directories of layout 4 had the modes of the image. So every user who could reach the store
could put files into an image's ``/tmp``, and all containers of the image showed them. Only
directories and whiteouts belong there, and in an ordinary user's store this user's files. All work
is done by descriptors, and no link is followed: somebody who can write in a directory can exchange
its content at any moment.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from podman_cvmfs.util.below import OPEN_DIRECTORY

_PART = re.compile(r"diff([1-9][0-9]*)?\Z")
#: No image has local directories so deep. Deeper directories of strangers lie below one that by
#: then only the owner can write.
_MAX_DEPTH = 200


@dataclass(frozen=True, order=True)
class Stranger:
    """A file in the store that no sync has put there: its absolute path, and its owner's ID."""

    path: str
    uid: int


def find_strangers(pool: str, owner: int) -> list[Stranger]:
    """The files that don't belong in the local directories below ``pool``. ``owner`` is the user
    (ID) who owns the pool. Raises OSError."""
    look = _Visit(owner)
    for place in _local_parts(pool):
        look.visit(place)
    return look.found


def clean_pool(pool: str, seize: bool) -> list[Stranger]:
    """Remove files that don't belong in the local directories below ``pool``, and return them.

    ``seize``: every directory becomes the caller's, and nobody else can write in it any more.
    Raises OSError.
    """
    look = _Visit(os.geteuid(), remove=True, seize=seize)
    for place in _local_parts(pool):
        look.visit(place)
    return look.found


def lock_away(pool: str) -> list[str]:
    """Close to all others the entries of ``pool`` whose local directories others could write in,
    and return the names of these entries. Raises OSError."""
    found = {os.path.basename(os.path.dirname(p)) for p in _local_parts(pool) if _is_open(p)}
    for entry in found:
        os.chmod(f"{pool}/{entry}", 0o700)
    return sorted(found)


def _is_open(place: str) -> bool:
    for _, _, _, descriptor in os.fwalk(place, follow_symlinks=False):
        attributes = os.fstat(descriptor)
        if attributes.st_uid != os.geteuid() or attributes.st_mode & 0o022:
            return True
    return False


def _local_parts(pool: str) -> Iterator[str]:
    """The directories of layers and pieces that are local."""
    with os.scandir(pool) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        with os.scandir(f"{pool}/{name}") as parts:
            local = [p.name for p in parts if _PART.match(p.name) and not p.is_symlink()]
        yield from (f"{pool}/{name}/{part}" for part in sorted(local))


@dataclass
class _Visit:
    """Goes through directories of ``owner`` (ID) and notes files that don't belong there."""

    owner: int
    remove: bool = False
    seize: bool = False
    found: list[Stranger] = field(default_factory=list)

    def visit(
        self, place: str, name: str | None = None, directory: int | None = None, depth: int = 0
    ) -> None:
        """Go through ``place``, or handle it if it isn't a directory. If ``directory`` is given,
        ``place`` is its entry ``name``."""
        if depth > _MAX_DEPTH:
            return
        where = place if name is None else name
        try:
            descriptor = os.open(where, OPEN_DIRECTORY, dir_fd=directory)
        except FileNotFoundError:
            return
        except OSError as err:
            if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            self._meet(place, where, directory)
            return
        try:
            # First stop others from putting anything there.
            if self.seize:
                _seize(descriptor)
            for inner in sorted(os.listdir(descriptor)):
                self.visit(f"{place}/{inner}", inner, descriptor, depth + 1)
        finally:
            os.close(descriptor)

    def _meet(self, place: str, where: str, directory: int | None) -> None:
        try:
            attributes = os.stat(where, dir_fd=directory, follow_symlinks=False)
            is_whiteout = stat.S_ISCHR(attributes.st_mode) and attributes.st_rdev == 0
            # Anybody may make a whiteout, too: it deletes a file from others' containers. And
            # anybody may move a link to a file of root's here.
            is_copy = stat.S_ISREG(attributes.st_mode) and self.owner != 0
            if (is_whiteout or is_copy) and attributes.st_uid == self.owner:
                return
            if self.remove:
                os.unlink(where, dir_fd=directory)
        except FileNotFoundError:
            return
        self.found.append(Stranger(place, attributes.st_uid))


def _seize(descriptor: int) -> None:
    attributes = os.fstat(descriptor)
    if attributes.st_uid != os.geteuid():
        os.fchown(descriptor, os.geteuid(), os.getegid())
    mode = stat.S_IMODE(attributes.st_mode)
    if mode & 0o022:
        os.fchmod(descriptor, mode & ~0o022)
