# SPDX-License-Identifier: Apache-2.0
"""Makes the list of a layer from its tar, as podman's unpacking would leave the files.

The contents of the files are read and dropped. What podman does beyond the OCI image-spec v1.1
``layer.md`` is in containers/storage ``pkg/archive/archive.go`` (``Unpack``) and
``archive_linux.go`` (1.57 and 1.64): directories that the tar doesn't list are root's with mode
0755, times before 1970 become 0, a hard link gives its attributes to the file, a character device
0:0 is a whiteout, an entry ``.`` is skipped, ``security.selinux`` is dropped.
"""

from __future__ import annotations

import os
import posixpath
import stat
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.entry import Entry
from podman_cvmfs.lists.inodes import ENTRY, MAX_NAME, MAX_PATH, Inode, InodeTree, shown, size_of
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.lists.tar_headers import MAX_ID, headers, mtime_ns_of, raw, xattrs_of
from podman_cvmfs.lists.tar_split import SplitStream, TarSplitWriter
from podman_cvmfs.repository import whiteouts

_MARKER, _OPAQUE_MARKER = os.fsencode(whiteouts.PREFIX), os.fsencode(whiteouts.OPAQUE)
#: The mode that podman gives the root directory of a layer.
ROOT_MODE = stat.S_IFDIR | 0o555

#: Go's ``os.Chtimes`` as containers/storage calls it takes no other times (``system/chtimes.go``).
_MAX_TIME = (1 << 63) - 1
#: Linux' limits for device numbers.
_MAX_MAJOR, _MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1

#: Linux' own limit of a value (``limits.h``), and what all attributes of a file may take: file
#: systems take less, and more wouldn't fit into a line of a list.
_MAX_XATTR, _MAX_XATTRS = 64 << 10, 192 << 10

_CAPABILITY = "security.capability"
_ACCESS_LIST = "system.posix_acl_access"
#: Linux ``include/uapi/linux/posix_acl.h`` and ``posix_acl_xattr.h``: version and tags.
_ACL_VERSION = b"\2\0\0\0"
_ACL_USER, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 0x01, 0x04, 0x10, 0x20

#: What a layer may unpack to, in bytes: as much, and as many times the bytes that were read.
_FLOOR, _RATIO = 4 << 30, 200


@dataclass(frozen=True)
class TarList:
    """The list of a layer that was read as a tar."""

    entries: list[Entry]
    #: Whether its tar-split was written.
    is_split: bool


class Unpacked:
    """Limits how many bytes a layer may unpack to: a few kilobytes must not keep us for hours."""

    def __init__(self) -> None:
        self._left = _FLOOR

    def earn(self, count: int) -> None:
        """Note that ``count`` bytes were read, as they are stored."""
        self._left += _RATIO * count

    def spend(self, count: int) -> None:
        """Take ``count`` bytes. Raises InputError if they are too many."""
        self._left -= count
        if self._left < 0:
            raise InputError(f"it unpacks to more than {_RATIO} times its size")


def list_of(stream: LayerStream, tar_split: BinaryIO | None = None) -> TarList:
    """Read a layer to its end; its tar-split goes to ``tar_split``.

    There is no tar-split of a layer with sparse files. Raises InputError for a damaged or malicious
    tar, for one that podman couldn't unpack, and for wrong digests; RegistryError, OSError.
    """
    writer = None if tar_split is None else TarSplitWriter(tar_split)
    source = SplitStream(stream, writer)
    work = _Unpacking(source)
    for info in headers(source):
        work.add(info)
    source.finish()
    if writer is not None:
        writer.close()
    return TarList([*work.tree.entries()], source.is_split)


class _Unpacking:
    def __init__(self, source: SplitStream) -> None:
        self._source = source
        self.tree = InodeTree(Inode(ROOT_MODE))
        self._makers: dict[bytes, Callable[[tarfile.TarInfo, bytes], Inode]] = {
            tarfile.REGTYPE: self._file,
            tarfile.AREGTYPE: self._file,
            tarfile.SYMTYPE: self._symlink,
            tarfile.LNKTYPE: self._hard_link,
            tarfile.CHRTYPE: self._device,
            tarfile.BLKTYPE: self._device,
            tarfile.FIFOTYPE: lambda info, path: Inode(stat.S_IFIFO),
        }

    def add(self, info: tarfile.TarInfo) -> None:
        """Do what podman does with an entry; the source stands at its content."""
        name = raw(info.name)
        self.tree.spend(ENTRY + len(name))
        if info.type != tarfile.DIRTYPE and info.type not in self._makers:
            raise InputError(f"{shown(name)!r} is of the unknown type {info.type!r}")
        parts = _parts(name)
        if not parts:
            # tarfile leaves nothing of a directory "/".
            if name.startswith(b"/") or not name:
                if not info.isdir():
                    raise InputError("the tar archive replaces its root directory")
                _apply(self.tree.root, info, name)
            return
        base = parts[-1]
        found = self.tree.directory(parts[:-1], make=True)
        if found is None or found[0].children is None:
            if base.startswith(_MARKER):
                # What it deletes lies below something that is deleted, or replaced.
                return
            raise InputError(f"{shown(name)!r} lies below a file")
        parent, where = found
        path = where + b"/" + base if where else base
        if len(base) > MAX_NAME or len(path) > MAX_PATH:
            raise InputError(f"the name {shown(path)!r} is too long")
        if base.startswith(_MARKER):
            self._mark(parent, base, name)
            return
        there = found[0].children.get(base)
        if info.isdir():
            inode = there
            if inode is None or inode.children is None:
                inode = Inode(stat.S_IFDIR)
        else:
            # It goes first: a hard link to itself finds nothing.
            found[0].children.pop(base, None)
            inode = self._makers[info.type](info, path)
        found[0].children[base] = inode
        _apply(inode, info, name)
        if inode.xattrs:
            _check_xattrs(inode.xattrs, name)
            self.tree.spend(size_of(inode.xattrs.items()))

    @staticmethod
    def _mark(parent: Inode, base: bytes, name: bytes) -> None:
        assert parent.children is not None
        hidden = base[len(_MARKER) :]
        if base == _OPAQUE_MARKER:
            parent.is_opaque = True
        elif hidden in (b"", b".", b"..") or hidden in parent.children:
            raise InputError(
                f"podman can't unpack {shown(name)!r}: the name that it deletes exists"
            )
        else:
            parent.children[hidden] = Inode(stat.S_IFCHR)

    def _file(self, info: tarfile.TarInfo, path: bytes) -> Inode:
        inode = Inode(stat.S_IFREG)
        inode.size = info.size
        if info.sparse is not None:
            self._source.give_up()
        elif info.size:
            self._source.content(path, info.size)
        return inode

    def _symlink(self, info: tarfile.TarInfo, path: bytes) -> Inode:
        target = raw(info.linkname)
        if not target or b"\0" in target or len(target) > MAX_PATH:
            raise InputError(f"{shown(path)!r} is a link to an impossible name")
        self.tree.spend(len(target))
        inode = Inode(stat.S_IFLNK)
        inode.target, inode.size = target, len(target)
        return inode

    def _hard_link(self, info: tarfile.TarInfo, path: bytes) -> Inode:
        parts = _parts(b"/" + raw(info.linkname))
        found = self.tree.directory(parts[:-1], make=False) if parts else None
        inode = found[0].children.get(parts[-1]) if found and found[0].children else None
        if inode is None or inode.children is not None:
            raise InputError(f"{shown(path)!r} is a hard link to a file that is not there")
        inode.is_linked = True
        return inode

    @staticmethod
    def _device(info: tarfile.TarInfo, path: bytes) -> Inode:
        if not (0 <= info.devmajor <= _MAX_MAJOR and 0 <= info.devminor <= _MAX_MINOR):
            raise InputError(f"{shown(path)!r} is an impossible device")
        inode = Inode(stat.S_IFCHR if info.ischr() else stat.S_IFBLK)
        inode.rdev = os.makedev(info.devmajor, info.devminor)
        return inode


def _parts(name: bytes) -> tuple[bytes, ...]:
    """The components of a name, as Go's ``filepath.Clean`` leaves them; none for the root. Raises
    InputError if it leads out."""
    if b"\0" in name or len(name) > MAX_PATH:
        raise InputError(f"the tar archive holds an impossible name: {shown(name)!r}")
    path = posixpath.normpath(name).lstrip(b"/")
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise InputError(f"the tar archive holds a name with '..' that leads out: {shown(name)!r}")
    return parts


def _apply(inode: Inode, info: tarfile.TarInfo, name: bytes) -> None:
    """Give the attributes in a header to ``inode``: owner, mode, time, extended attributes."""
    if not (0 <= info.uid <= MAX_ID and 0 <= info.gid <= MAX_ID):
        raise InputError(f"{shown(name)!r} has an impossible owner: {info.uid}:{info.gid}")
    inode.uid, inode.gid = info.uid, info.gid
    if inode.xattrs is not None and inode.children is None:
        # The kernel drops it when the owner is set.
        inode.xattrs.pop(_CAPABILITY, None)
    time = mtime_ns_of(info)
    if inode.target is None:
        inode.mode = stat.S_IFMT(inode.mode) | info.mode & 0o7777
        inode.mtime_ns = time if 0 <= time <= _MAX_TIME else 0
    else:
        inode.mode = stat.S_IFLNK | 0o777
        if info.issym():
            inode.mtime_ns = max(-_MAX_TIME, min(_MAX_TIME, time))
    xattrs = {key: value for key, value in xattrs_of(info).items() if key}
    access_list = xattrs.pop(_ACCESS_LIST, None)
    if access_list is not None:
        _set_access_list(inode, access_list, name)
    inode.set_xattrs(xattrs)


def _check_xattrs(xattrs: Mapping[str, bytes], name: bytes) -> None:
    """Raise InputError for extended attributes that Linux couldn't store, and no list could."""
    is_short = all(
        len(raw(key)) <= MAX_NAME and len(value) <= _MAX_XATTR for key, value in xattrs.items()
    )
    if not is_short or size_of(xattrs.items()) > _MAX_XATTRS:
        raise InputError(f"{shown(name)!r} has too large extended attributes")


def _set_access_list(inode: Inode, value: bytes, name: bytes) -> None:
    """Set an access control list: the kernel changes the mode with it."""
    if not value.startswith(_ACL_VERSION) or len(value) % 8 != 4:
        raise InputError(f"the access control list of {shown(name)!r} is not valid")
    entries = [*struct.iter_unpack("<HHI", value[4:])]
    bits = {tag: permissions & 7 for tag, permissions, _ in entries}
    if not bits.keys() >= {_ACL_USER, _ACL_GROUP, _ACL_OTHER}:
        raise InputError(f"the access control list of {shown(name)!r} is not valid")
    group = bits.get(_ACL_MASK, bits[_ACL_GROUP])
    permissions = bits[_ACL_USER] << 6 | group << 3 | bits[_ACL_OTHER]
    inode.mode = inode.mode & ~0o777 | permissions
    inode.xattrs = inode.xattrs or {}
    if len(entries) > 3:
        inode.xattrs[_ACCESS_LIST] = value
    else:
        # It says no more than the mode, and isn't kept.
        inode.xattrs.pop(_ACCESS_LIST, None)
