# SPDX-License-Identifier: Apache-2.0
"""The files below a directory as the catalogues of CernVM-FS have them.

Format: CernVM-FS 2.12 ``catalog_sql.h`` and ``xattr.cc``. A catalogue's rows form a tree by the
MD5s of paths. Each MD5 is computed anew here, so a row can't pretend to be another path.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.catalogue_rows import Catalogue, CatalogueRow
from podman_cvmfs.lists.inodes import ENTRY, MAX_NAME, MAX_PATH, XATTR, Inode, InodeTree, shown

#: Bits of ``flags``: another catalogue begins here, which this one names; this catalogue begins
#: here; a place that shows another one; left out of listings.
_NESTED, _ROOT, _BOUND, _HIDDEN = 0x2, 0x20, 0x4000, 0x8000
_HASH = re.compile(rb"[0-9a-f]{40}(?:-rmd160|-shake128)?\Z")
#: The publisher's sign that a catalogue begins in its directory; no image has it by itself.
SIGN = b".cvmfscatalog"
#: Catalogues nested in one another, and those of one directory.
_MAX_DEPTH, _MAX_CATALOGUES = 16, 2000

_KINDS = frozenset(
    (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)
    + (stat.S_IFSOCK,)
)

#: Opens the catalogue with this hash, which begins at this path.
Open = Callable[[str, str], AbstractContextManager[Catalogue]]


def tree_of(opening: Open, hash_: str, begins: str, directory: str) -> InodeTree:
    """The tree below ``directory``, whose catalogue has this hash and begins at ``begins``.

    Paths are from the repository's root. Raises InputError for catalogues that contradict
    themselves or one another, and whatever ``opening`` raises.
    """
    reading = _Reading(opening)
    root = reading.read(hash_, os.fsencode(begins), os.fsencode(directory), 0)
    return InodeTree(root, reading.tree.left)


class _Reading:
    def __init__(self, opening: Open) -> None:
        self._opening = opening
        self._count = 0
        #: Only its budget is used.
        self.tree = InodeTree(Inode(stat.S_IFDIR))

    def read(self, hash_: str, begins: bytes, wanted: bytes, depth: int) -> Inode:
        """The directory ``wanted`` in a catalogue, with all below it."""
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_CATALOGUES:
            raise InputError("too many catalogues are nested in one another")
        nested: dict[bytes, str] = {}
        rows: dict[tuple[int, int], CatalogueRow] = {}
        children: dict[tuple[int, int], list[CatalogueRow]] = {}
        with self._opening(hash_, os.fsdecode(begins)) as catalogue:
            for path, found in catalogue.nested():
                if not _HASH.match(found):
                    raise InputError("the catalogue names a nested one without a hash")
                nested[path.strip(b"/")] = found.decode()
            for row in catalogue.rows():
                # Their number is in the second byte.
                xattrs = len(row.xattrs) + XATTR * sum(row.xattrs[1:2])
                self.tree.spend(ENTRY + len(row.name) + len(row.target) + xattrs)
                if row.key in rows:
                    raise InputError("the catalogue has a path twice")
                rows[row.key] = row
                children.setdefault(row.parent, []).append(row)
        top = rows.get(_md5(begins))
        if top is None or not stat.S_ISDIR(top.mode) or (begins and not top.flags & _ROOT):
            raise InputError("the catalogue has no root")
        start = rows.get(_md5(wanted))
        if start is None or not stat.S_ISDIR(start.mode):
            raise InputError(f"the catalogue has no directory {shown(wanted)!r}")
        return self._tree(start, wanted, children, nested, depth)

    def _tree(
        self,
        start: CatalogueRow,
        wanted: bytes,
        children: dict[tuple[int, int], list[CatalogueRow]],
        nested: dict[bytes, str],
        depth: int,
    ) -> Inode:
        root = _inode(start)
        groups: dict[int, Inode] = {}
        pending = [(wanted, start, root)]
        while pending:
            above, row, inode = pending.pop()
            assert inode.children is not None
            for child in children.get(row.key, ()):
                path = above + b"/" + child.name if above else child.name
                _check(child, path)
                if child.flags & _HIDDEN or (child.name == SIGN and row.flags & (_ROOT | _NESTED)):
                    continue
                if child.name in inode.children:
                    raise InputError(f"the catalogue has {shown(path)!r} twice")
                if child.flags & _NESTED and not child.flags & _ROOT:
                    if path not in nested:
                        raise InputError(f"the catalogue doesn't name the one of {shown(path)!r}")
                    made = self.read(nested[path], path, path, depth + 1)
                else:
                    made = self._linked(child, groups)
                    if made.children is not None:
                        pending.append((path, child, made))
                inode.children[child.name] = made
        return root

    @staticmethod
    def _linked(row: CatalogueRow, groups: dict[int, Inode]) -> Inode:
        """The inode of a row: one for all rows of a hard-link group."""
        group = row.hardlinks >> 32 if stat.S_ISREG(row.mode) else 0
        if group and group in groups:
            known = groups[group]
            if (known.mode, known.size) != (row.mode, row.size):
                raise InputError("the catalogue has a hard link whose files differ")
            known.is_linked = True
            return known
        made = _inode(row)
        if group:
            groups[group] = made
        return made


def _md5(path: bytes) -> tuple[int, int]:
    """The key of a path: from the root of the repository, with a slash in front."""
    whole = b"/" + path if path else b""
    first, second = struct.unpack("<qq", hashlib.md5(whole, usedforsecurity=False).digest())
    return first, second


def _check(row: CatalogueRow, path: bytes) -> None:
    if row.name in (b"", b".", b"..") or b"/" in row.name or b"\0" in row.name:
        raise InputError(f"the catalogue has an impossible name: {shown(row.name)!r}")
    if len(row.name) > MAX_NAME or len(path) > MAX_PATH:
        raise InputError(f"the catalogue has a name that is too long: {shown(path)!r}")
    if row.key != _md5(path):
        raise InputError(f"the catalogue has {shown(path)!r} in a wrong place")
    if row.flags & _BOUND:
        raise InputError(f"the catalogue shows another directory at {shown(path)!r}")


def _inode(row: CatalogueRow) -> Inode:
    kind = stat.S_IFMT(row.mode)
    owners = (row.uid, row.gid)
    if kind not in _KINDS or row.mode >> 16 or not all(0 <= each < 1 << 32 for each in owners):
        raise InputError(f"the catalogue has wrong attributes of {shown(row.name)!r}")
    if row.size < 0 or row.hardlinks < 0:
        raise InputError(f"the catalogue has a wrong size of {shown(row.name)!r}")
    inode = Inode(row.mode)
    inode.uid, inode.gid = owners
    inode.mtime_ns = row.mtime_ns
    if kind == stat.S_IFLNK:
        if not row.target or b"\0" in row.target or len(row.target) > MAX_PATH:
            raise InputError(f"the catalogue has a wrong link {shown(row.name)!r}")
        inode.target, inode.size = row.target, len(row.target)
    elif kind == stat.S_IFREG:
        inode.size = row.size
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        # The size of a device is its number.
        if row.size >= 1 << 32:
            raise InputError(f"the catalogue has a wrong device {shown(row.name)!r}")
        inode.rdev = row.size
    if row.xattrs:
        inode.set_xattrs(_xattrs(row))
    return inode


def _xattrs(row: CatalogueRow) -> dict[str, bytes]:
    """The extended attributes in a row: a version, a number, and for each two lengths and two
    texts."""
    wrong = InputError(f"the catalogue has wrong extended attributes of {shown(row.name)!r}")
    data = row.xattrs
    if len(data) < 2 or data[0] != 1:
        raise wrong
    found: dict[str, bytes] = {}
    at = 2
    for _ in range(data[1]):
        if at + 2 > len(data):
            raise wrong
        name_end = at + 2 + data[at]
        end = name_end + data[at + 1]
        name = data[at + 2 : name_end]
        if end > len(data) or not name or b"\0" in name:
            raise wrong
        found[os.fsdecode(name)] = data[name_end:end]
        at = end
    return found
