# SPDX-License-Identifier: Apache-2.0
"""A tree of files in memory, as a file system has it while a layer is unpacked into it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.lists.entry import NOTES, OPAQUE, Entry

#: Linux' own limits: NAME_MAX, PATH_MAX, and links followed in one path.
MAX_NAME, MAX_PATH = 255, 4095
_MAX_LINKS = 40
#: Hardly an image has a way of more directories; each further step costs as much.
_SHORT_WAY, _STEP = 32, 16
#: What an entry takes besides its names and attributes, in bytes: about so much memory.
ENTRY = 1024
#: The same of an extended attribute.
XATTR = 128
_LABEL = "security.selinux"
#: What all entries of a layer may take, in bytes: a million files.
MOST = 1 << 30


def size_of(xattrs: Iterable[tuple[str, bytes]]) -> int:
    """What these extended attributes take, in bytes."""
    return sum(XATTR + len(name) + len(value) for name, value in xattrs)


class Inode:
    """A file or directory, with all its names."""

    __slots__ = (
        "children", "gid", "is_linked", "is_opaque", "mode", "mtime_ns", "rdev", "size", "target",
        "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.uid = self.gid = self.size = self.mtime_ns = self.rdev = 0
        #: Of a symbolic link.
        self.target: bytes | None = None
        #: Whether it ever got a second name.
        self.is_linked = False
        self.is_opaque = False
        self.xattrs: dict[str, bytes] | None = None
        #: Of a directory: name -> inode.
        self.children: dict[bytes, Inode] | None = {} if stat.S_ISDIR(mode) else None

    def set_xattrs(self, xattrs: Mapping[str, bytes]) -> None:
        """Give it extended attributes of an image.

        Labels aren't kept, and of overlayfs' own notes only that a directory is opaque: the others
        would lead to other layers' files.
        """
        for name, value in xattrs.items():
            if name == OPAQUE and value == b"y" and self.children is not None:
                self.is_opaque = True
            elif name != _LABEL and not name.startswith(NOTES):
                self.xattrs = self.xattrs or {}
                self.xattrs[name] = value

    @property
    def is_whiteout(self) -> bool:
        """Whether overlayfs takes it for a whiteout."""
        return stat.S_ISCHR(self.mode) and self.rdev == 0


class InodeTree:
    """The files below ``root``, within a budget."""

    def __init__(self, root: Inode, most: int = MOST) -> None:
        self.root = root
        #: In bytes.
        self.left = most

    def spend(self, size: int) -> None:
        """Take ``size`` bytes. Raises InputError if there are too few left."""
        self.left -= size
        if self.left < 0:
            raise InputError("it has more files than a file list may have")

    def implied(self) -> Inode:
        """A directory that the layer doesn't list: podman makes it root's, with mode 0755."""
        self.spend(ENTRY)
        return Inode(stat.S_IFDIR | 0o755)

    def directory(self, parts: tuple[bytes, ...], make: bool) -> tuple[Inode, bytes] | None:
        """The directory at ``parts``, and its path without links; None if something else is there.

        Symbolic links on the way are followed, with this root for the system's. A missing directory
        is made with ``make``; without ``make`` the result is None. Raises InputError if links lead
        in circles, and if the way is too long.
        """
        names: list[bytes] = []
        trail = [self.root]
        pending = [*reversed(parts)]
        links = steps = 0
        while pending:
            part = pending.pop()
            steps += 1
            if steps > _SHORT_WAY:
                self.spend(_STEP)
            if part in (b"", b"."):
                continue
            if part == b"..":
                # Only a link's target can hold it. "/.." is "/".
                if names:
                    names.pop()
                    trail.pop()
                continue
            children = trail[-1].children
            assert children is not None
            child = children.get(part)
            if child is None:
                if not make or len(part) > MAX_NAME:
                    return None
                child = children[part] = self.implied()
            if child.target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise InputError(f"too many links on the way to {shown(b'/'.join(parts))!r}")
                if child.target.startswith(b"/"):
                    names, trail = [], [self.root]
                pending.extend(reversed(child.target.split(b"/")))
            elif child.children is None:
                return None
            else:
                names.append(part)
                trail.append(child)
        path = b"/".join(names)
        if len(path) > MAX_PATH:
            raise InputError(f"the path to {shown(path)!r} is too long")
        return trail[-1], path

    def entries(self) -> Iterator[Entry]:
        """All entries, in list order. Raises InputError if the budget doesn't suffice."""
        # Inode -> the path of its first name.
        first: dict[Inode, str] = {}
        pending = [(b"", self.root)]
        while pending:
            path, inode = pending.pop()
            self.spend(len(path))
            yield _entry(os.fsdecode(path), inode, first)
            if inode.children:
                prefix = path + b"/" if path else b""
                below = sorted(inode.children.items(), key=lambda each: each[0], reverse=True)
                pending.extend((prefix + name, child) for name, child in below)


def _entry(path: str, inode: Inode, first: dict[Inode, str]) -> Entry:
    """The entry of the name ``path`` of an inode."""
    if inode.is_whiteout:
        return Entry(path, stat.S_IFCHR)
    hardlink = None
    if inode.is_linked:
        hardlink = first.setdefault(inode, path)
        hardlink = None if hardlink == path else hardlink
    has_data = stat.S_ISREG(inode.mode) and inode.size > 0 and hardlink is None
    xattrs = [*inode.xattrs.items()] if inode.xattrs else []
    if inode.is_opaque and path:
        # overlayfs shows all roots of a stack, opaque or not.
        xattrs.append((OPAQUE, b"y"))
    return Entry(
        path=path,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        size=inode.size,
        mtime_ns=inode.mtime_ns,
        rdev=inode.rdev,
        target=os.fsdecode(inode.target) if inode.target is not None and not hardlink else None,
        backing=path if has_data else None,
        hardlink=hardlink,
        xattrs=tuple(sorted(xattrs)),
    )


def shown(path: bytes) -> str:
    """``path`` for a message: odd bytes and control characters escaped."""
    return printable(path.decode("utf-8", "surrogateescape"))[:300]
