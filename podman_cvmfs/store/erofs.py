# SPDX-License-Identifier: Apache-2.0
"""Writes a file list as an EROFS image: all names and attributes, and no data.

containers/storage mounts such an image where a layer's directory holds ``composefs-data``, as the
metadata of an overlay whose data are elsewhere (``drivers/overlay/composefs.go``). A file that has
content carries the attributes with which overlayfs finds it: ``metacopy``, and ``redirect`` with a
path from the root of the data (Linux ``Documentation/filesystems/overlayfs.rst``, data-only lower
layers). Whiteouts and opaque directories stand in it as in a layer.

The image is three parts: a first block, the inodes, the blocks of directories and links too long to
stand behind their inode. Places are given to all inodes first, because directories name them; then
everything is written from the beginning to the end. Equal lists give equal bytes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.lists.entry import OPAQUE, Entry
from podman_cvmfs.store.erofs_records import (
    BLOCK,
    HOLE,
    INODE,
    MAX_SIZE,
    SLOT,
    directory_block,
    file_type,
    first_block,
    has_acl,
    inode,
    split_directory,
    xattrs_body,
)

_MAX_NAME = 255
#: The kernel reads a link, and follows a path to data, in one page with its terminating null.
_MAX_PATH = 4095
_OVERLAY = "trusted.overlay."
_METACOPY, _REDIRECT = b"trusted.overlay.metacopy", b"trusted.overlay.redirect"
_MAX_ID = 0xFFFFFFFE
#: An absolute path in which every name stands for itself.
_PATH = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[^/\0]+)+\Z")
#: What is written at once, in bytes.
_PORTION = 1 << 20


class _Node:
    """An inode: its entry, its place, and for a directory what is in it."""

    __slots__ = ("blocks", "children", "counts", "entry", "inline", "links", "place", "size", "up")

    def __init__(self, entry: Entry, up: _Node | None) -> None:
        self.entry = entry
        #: The directory that holds it; of the root, itself.
        self.up = up or self
        self.links = 2 if entry.is_directory else 1
        self.children: dict[bytes, _Node] | None = {} if entry.is_directory else None
        #: The number of entries in each block of a directory.
        self.counts: Sequence[int] = ()
        self.inline = 0
        self.blocks = 0
        self.size = 0
        self.place = 0

    @property
    def address(self) -> int:
        """Where it is among the inodes, as directories name it."""
        return self.place // SLOT


def write_image(entries: Iterable[Entry], data_path: Callable[[str], str], out: BinaryIO) -> int:
    """Write the list ``entries`` as an EROFS image to ``out``; return its length in bytes.

    Each entry stands behind the directory that holds it, and a hard link behind the entry that it
    names. ``data_path`` makes the absolute path of a file's data, from the root of the data, of
    the path in the list. Raises InputError for a list that is not in order or that EROFS or
    overlayfs can't hold, and OSError.
    """
    nodes = _tree(entries)
    end = _give_places(nodes, data_path)
    used = -(-end // BLOCK)
    blocks = 1 + used + sum(node.blocks for node in nodes)
    acl = any(has_acl(node.entry.xattrs) for node in nodes)
    writer = _Writer(out)
    writer.write(first_block(root=nodes[0].address, inodes=len(nodes), blocks=blocks, acl=acl))
    at = 1 + used
    for number, node in enumerate(nodes, 1):
        writer.pad(BLOCK + node.place)
        writer.write(_inode(node, number, at, data_path))
        at += node.blocks
    writer.pad(BLOCK * (1 + used))
    for node in nodes:
        for block in _blocks(node):
            writer.write(block.ljust(BLOCK, b"\0"))
    writer.flush()
    return blocks * BLOCK


class _Writer:
    """Collects small pieces, because each call of the system costs more than they do."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._portion = bytearray()
        self._before = 0

    def write(self, data: bytes) -> None:
        self._portion += data
        if len(self._portion) > _PORTION:
            self.flush()

    def pad(self, place: int) -> None:
        """Go on at ``place``, with zeros up to there."""
        self._portion += bytes(place - self._before - len(self._portion))

    def flush(self) -> None:
        self._out.write(self._portion)
        self._before += len(self._portion)
        self._portion = bytearray()


def _tree(entries: Iterable[Entry]) -> list[_Node]:
    """The inodes of a list, the root first."""
    nodes: list[_Node] = []
    directories: dict[str, _Node] = {}
    for entry in entries:
        _check(entry)
        above, _, name = entry.path.rpartition("/")
        parent = directories.get(above) if entry.path else None
        if entry.hardlink is not None:
            node = _file_at(entry.hardlink, directories)
            if node is None:
                raise _refused(entry, f"no file {entry.hardlink!r} stands before its hard link")
            node.links += 1
        else:
            node = _Node(entry, parent)
            nodes.append(node)
            if entry.is_directory:
                directories[entry.path] = node
        if not entry.path:
            if len(nodes) != 1 or not entry.is_directory:
                raise _refused(entry, "the first entry, and only that, is the root directory")
            continue
        if parent is None or parent.children is None:
            raise _refused(entry, "its directory doesn't stand before it")
        _add(parent, name, node, entry)
    if not nodes:
        raise InputError("a file list is empty: not even a root directory is in it")
    return nodes


def _file_at(path: str, directories: Mapping[str, _Node]) -> _Node | None:
    """The file ``path``, which is no directory, if it is among those known so far."""
    above, _, name = path.rpartition("/")
    parent = directories.get(above)
    node = None if parent is None else (parent.children or {}).get(os.fsencode(name))
    return node if node is not None and node.children is None else None


def _add(parent: _Node, name: str, node: _Node, entry: Entry) -> None:
    key = os.fsencode(name)
    assert parent.children is not None
    if key in parent.children:
        raise _refused(entry, "it is in the list twice")
    if not key or key in (b".", b"..") or b"\0" in key or len(key) > _MAX_NAME:
        raise _refused(entry, "no file can have this name")
    parent.children[key] = node
    if node.children is not None:
        parent.links += 1


def _check(entry: Entry) -> None:
    if file_type(entry.mode) is None:
        raise _refused(entry, "a file of unknown type")
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        raise _refused(entry, "the kernel has no such owner")
    if not 0 <= entry.size <= MAX_SIZE:
        raise _refused(entry, "no file has this size")
    if abs(entry.mtime_ns) >= 1 << 62:
        raise _refused(entry, "no file has this time")
    if stat.S_ISLNK(entry.mode) and not 0 < len(os.fsencode(entry.target or "")) <= _MAX_PATH:
        raise _refused(entry, "the kernel can't read a link of this length")
    for name, _ in entry.xattrs:
        # Others would lead to data of other files.
        if name.startswith(_OVERLAY) and name != OPAQUE:
            raise _refused(entry, f"a layer may not have the attribute {name!r}")


def _refused(entry: Entry, why: str) -> InputError:
    return InputError(f"a file list is wrong at {printable(entry.path)!r}: {printable(why)}")


def _give_places(nodes: list[_Node], data_path: Callable[[str], str]) -> int:
    """Give each inode its place behind the first block; return where the last one ends."""
    at = 0
    for node in nodes:
        entry = node.entry
        # They are made twice: kept, those of large layers would fill the memory.
        fixed = INODE + len(_xattrs(entry, data_path))
        tail = 0
        if node.children is not None:
            names = sorted([b".", b"..", *node.children])
            node.counts, tail = split_directory(map(len, names))
            node.size = (len(node.counts) - 1) * BLOCK + tail
        elif stat.S_ISLNK(entry.mode):
            node.size = tail = len(os.fsencode(entry.target or ""))
        elif stat.S_ISREG(entry.mode):
            node.size = entry.size
            fixed += len(HOLE) if entry.size else 0
        # The content behind an inode may not go over the end of a block.
        node.inline = tail if fixed % BLOCK + tail <= BLOCK and tail else 0
        node.blocks = -(-node.size // BLOCK) if tail else 0
        node.blocks -= 1 if node.inline else 0
        at += -at % SLOT
        if BLOCK - at % BLOCK < INODE or not _holds(at + fixed, node.inline):
            at += -at % BLOCK
        if not _holds(at + fixed, node.inline):
            # Attributes of more than a block come first, so the place of the content counts.
            node.inline, node.blocks = 0, node.blocks + 1
        node.place = at
        at += fixed + node.inline
    return at


def _holds(place: int, length: int) -> bool:
    """Whether ``length`` bytes at ``place`` are in one block."""
    return not length or place // BLOCK == (place + length - 1) // BLOCK


def _xattrs(entry: Entry, data_path: Callable[[str], str]) -> bytes:
    found = [(os.fsencode(name), value) for name, value in entry.xattrs]
    if stat.S_ISREG(entry.mode) and entry.size:
        found += [(_METACOPY, b""), (_REDIRECT, _redirect(entry, data_path))]
    return xattrs_body(found, entry.path) if found else b""


def _redirect(entry: Entry, data_path: Callable[[str], str]) -> bytes:
    if entry.backing is None:
        raise _refused(entry, "nothing says where its data are")
    path = os.fsencode(data_path(entry.backing))
    if not _PATH.match(path):
        raise _refused(entry, f"its data have the path {entry.backing!r}")
    if len(path) > _MAX_PATH:
        raise _refused(entry, "the path of its data is too long for the kernel")
    return path


def _inode(node: _Node, number: int, at: int, data_path: Callable[[str], str]) -> bytes:
    entry = node.entry
    inline = b""
    if node.inline:
        inline = _content(node)[-1]
    is_device = stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode)
    return inode(
        number=number,
        # Linux shows no other bits of a symbolic link.
        mode=stat.S_IFLNK | 0o777 if stat.S_ISLNK(entry.mode) else entry.mode,
        owner=(entry.uid, entry.gid),
        mtime_ns=entry.mtime_ns,
        links=node.links,
        size=node.size,
        xattrs=_xattrs(entry, data_path),
        first_block=at if node.blocks else None,
        rdev=entry.rdev if is_device else None,
        inline=inline,
    )


def _blocks(node: _Node) -> Iterator[bytes]:
    """What of a node stands in blocks of its own."""
    if node.blocks:
        yield from _content(node)[: node.blocks]


def _content(node: _Node) -> list[bytes]:
    """The content of a directory or link, block by block."""
    if node.children is None:
        return [os.fsencode(node.entry.target or "")]
    # The two names that every directory has may stand behind others in the order of bytes.
    entries = [(name, each.address, _kind(each)) for name, each in node.children.items()]
    entries += [(b".", node.address, _kind(node)), (b"..", node.up.address, _kind(node.up))]
    entries.sort()
    found, begin = [], 0
    for count in node.counts:
        found.append(directory_block(entries[begin : begin + count]))
        begin += count
    return found


def _kind(node: _Node) -> int:
    kind = file_type(node.entry.mode)
    assert kind is not None
    return kind
