# SPDX-License-Identifier: Apache-2.0
"""The records of an EROFS image, as bytes. Pure: no I/O.

Source: Linux ``fs/erofs/erofs_fs.h`` and ``Documentation/filesystems/erofs.rst``. Only a part of
the format is used: blocks of 4 KiB, extended inodes, attributes behind the inode, no compression.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Sequence

from podman_cvmfs.errors import InputError, printable

BLOCK = 4096
#: Inodes are addressed in units of so many bytes.
SLOT = 32
INODE = 64
#: The whole map of a file that is one hole: one chunk without an address (EROFS_NULL_ADDR).
HOLE = b"\xff\xff\xff\xff"
#: A chunk has at most 2^31 blocks.
MAX_SIZE = 1 << 43
_WHOLE_FILE = 31
_NO_BLOCK = 0xFFFFFFFF

_MAGIC = 0xE0F5E1E2
_CHUNKED_FILES = 0x4
#: Where the superblock begins.
_SUPERBLOCK = 1024
#: composefs ``libcomposefs/erofs_fs_wrapper.h``: containers/storage looks for this header in the
#: first bytes, and mounts an image with access control lists only if bit 0 of the flags is set
#: (``drivers/overlay/composefs.go``, hasACL).
_COMPOSEFS_MAGIC, _COMPOSEFS_VERSION, _HAS_ACL = 0xD078629A, 1, 1

_FLAT_PLAIN, FLAT_INLINE, _CHUNKED = 0, 2, 4

#: The number that stands for the beginning of an attribute's name (``erofs_fs.h``).
_PREFIXES = {b"user": 1, b"trusted": 4, b"security": 6}
_ACL = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
_ACL_PREFIX = "system.posix_acl_"
_MAX_NAME, _MAX_VALUE = 255, 65535
#: The count of an inode's attribute bytes has 16 bits, in units of 4 bytes.
_MAX_XATTRS = 4 * 65535

_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
_DIRENT = struct.Struct("<QHBx")
_XATTR = struct.Struct("<BBH")
_EXTENDED = struct.Struct("<HHHHQIIIIqII16x")
_BILLION = 1_000_000_000


def file_type(mode: int) -> int | None:
    """The number in a directory entry for files of this ``st_mode``; None for an unknown type."""
    return _FILE_TYPES.get(stat.S_IFMT(mode))


def xattrs_body(xattrs: Iterable[tuple[bytes, bytes]], path: str) -> bytes:
    """The attributes of the file ``path`` as they stand behind its inode; b"" for none. Raises
    InputError if EROFS can't hold them."""
    found = []
    for name, value in xattrs:
        prefix, _, rest = name.partition(b".")
        index = _PREFIXES.get(prefix)
        if index is None:
            index, rest = _ACL.get(name, 0), b""
        if not index or len(rest) > _MAX_NAME or len(value) > _MAX_VALUE:
            shown = printable(os.fsdecode(name))
            raise InputError(f"{printable(path)}: EROFS can't hold the attribute {shown!r}")
        length = _XATTR.size + len(rest) + len(value)
        found += [_XATTR.pack(len(rest), index, len(value)), rest, value, bytes(-length % 4)]
    body = b"".join(found)
    if len(body) > _MAX_XATTRS:
        raise InputError(f"{printable(path)}: its attributes are too long for EROFS")
    # The header has no names of shared attributes, and no filter.
    return bytes(12) + body if body else b""


def has_acl(xattrs: Iterable[tuple[str, bytes]]) -> bool:
    """Whether an access control list is among the attributes."""
    return any(name.startswith(_ACL_PREFIX) for name, _ in xattrs)


def inode(
    *,
    number: int,
    mode: int,
    owner: tuple[int, int],
    mtime_ns: int,
    links: int,
    size: int,
    xattrs: bytes,
    first_block: int | None = None,
    rdev: int | None = None,
    inline: bytes = b"",
) -> bytes:
    """An inode with its attributes and its ``inline`` content behind it.

    The content is what stands there, and else the blocks from ``first_block`` on. A regular file
    with a ``size`` is one hole.
    """
    layout, content = _FLAT_PLAIN, _NO_BLOCK if first_block is None else first_block
    if rdev is not None:
        content = _device(rdev)
    elif stat.S_ISREG(mode) and size:
        layout, content, inline = _CHUNKED, _WHOLE_FILE, HOLE
    elif inline:
        layout = FLAT_INLINE
    units = (len(xattrs) - 12) // 4 + 1 if xattrs else 0
    seconds, rest = divmod(mtime_ns, _BILLION)
    head = _EXTENDED.pack(
        1 | layout << 1, units, mode, 0, size, content, number, *owner, seconds, rest, links
    )
    return head + xattrs + inline


def _device(rdev: int) -> int:
    """A device number as Linux stores it in 32 bits (``new_encode_dev``)."""
    major, minor = os.major(rdev), os.minor(rdev)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def directory_block(entries: Sequence[tuple[bytes, int, int]]) -> bytes:
    """A block of a directory, without the zeros at its end: (name, inode's address in units of
    ``SLOT``, file type), sorted by name."""
    offset = _DIRENT.size * len(entries)
    records, names = [], []
    for name, address, kind in entries:
        records.append(_DIRENT.pack(address, offset, kind))
        names.append(name)
        offset += len(name)
    return b"".join(records + names)


def split_directory(lengths: Iterable[int]) -> tuple[list[int], int]:
    """How a directory with names of these ``lengths`` fills its blocks: the number of entries in
    each block, and the bytes in the last one."""
    counts, used = [0], 0
    for length in lengths:
        needed = _DIRENT.size + length
        if used + needed > BLOCK:
            counts.append(0)
            used = 0
        counts[-1] += 1
        used += needed
    return counts, used


def first_block(*, root: int, inodes: int, blocks: int, acl: bool) -> bytes:
    """The first block of an image: the header for containers/storage, and the superblock.

    ``root`` is the address of the root's inode. The inodes begin with the block behind this one.
    """
    superblock = struct.pack(
        "<IIIBBHQQIIII16s16sI44x",
        _MAGIC,
        0,  # no checksum
        0,
        12,  # the size of a block as a power of two
        0,
        root,
        inodes,
        0,  # no time of its own: equal lists give equal images
        0,
        blocks,
        1,  # the block where the inodes begin
        0,
        bytes(16),
        b"podman-cvmfs",
        _CHUNKED_FILES,
    )
    header = struct.pack("<III", _COMPOSEFS_MAGIC, _COMPOSEFS_VERSION, _HAS_ACL if acl else 0)
    return (header.ljust(_SUPERBLOCK, b"\0") + superblock).ljust(BLOCK, b"\0")
