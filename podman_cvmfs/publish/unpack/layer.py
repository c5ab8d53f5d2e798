# SPDX-License-Identifier: Apache-2.0
"""Unpacks the tar of one layer into a directory (OCI image-spec v1.1 ``layer.md``).

tarfile parses; every file is made here, through ``safe_tree``, so that nothing outside the
directory is touched. Whiteouts are kept as the plain files they are in the tar, as DUCC does.

What a plain directory can hold is kept: owners (as root), modes, times, hard links, pipes,
extended attributes. Not kept: devices other than the 0:0 character device, which overlayfs
takes for a whiteout, and the attributes that ``attributes`` lists.
"""

from __future__ import annotations

import logging
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.lists.tar_headers import FILE_TYPES, MAX_ID, headers, raw, xattrs_of
from podman_cvmfs.publish.source.budget import ENTRY
from podman_cvmfs.publish.unpack import attributes
from podman_cvmfs.publish.unpack.attributes import DEFAULT_DIRECTORY, Attributes
from podman_cvmfs.publish.unpack.cursor import Cursor
from podman_cvmfs.publish.unpack.safe_tree import (
    BUILD_MODE,
    CREATE_FILE,
    MAX_PATH,
    BuildTree,
    join,
    lstat,
    remove,
    shown,
    split_path,
    write_all,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

WHITEOUT = b".wh."
#: ".wh..wh." begins aufs' own names, of which only this one means anything to others.
META = b".wh..wh."
OPAQUE = b".wh..wh..opq"

#: Times outside what file systems hold (64-bit nanoseconds) are cut off there.
_MAX_TIME = 2**63 - 1


def unpack(stream: LayerStream, root: int) -> frozenset[bytes]:
    """Unpack ``stream`` into the empty directory open as ``root``, and check its digests.

    Returns the paths of directories that the tar doesn't mention but its entries need; b"" is the
    root. Raises InputError for a damaged or malicious tar, OSError if the disk is full; the
    directory must then be removed.
    """
    work = _Unpacking(root, stream)
    try:
        for info in headers(stream):
            work.add(info)
        stream.finish()
    except (ValueError, OverflowError, RecursionError) as err:
        raise InputError(f"the tar archive is damaged: {type(err).__name__}") from None
    finally:
        work.tree.close()
    return work.finish()


@dataclass(frozen=True)
class _Entry:
    """One entry on its way into the tree: ``path`` and ``parent`` are where it really goes."""

    info: tarfile.TarInfo
    parts: tuple[bytes, ...]
    path: bytes
    parent: int
    attributes: Attributes

    @property
    def name(self) -> bytes:
        return self.parts[-1]


class _Unpacking:
    def __init__(self, root: int, stream: LayerStream) -> None:
        self._budget = stream.budget
        self.tree = BuildTree(root, self._implied, lambda: self._budget.spend(ENTRY))
        self._stream = stream
        #: Path -> attributes of every directory, None for one only implied so far.
        self._directories: dict[bytes, Attributes | None] = {b"": None}
        self._makers: dict[bytes, Callable[[_Entry], None]] = {
            tarfile.DIRTYPE: self._directory,
            tarfile.SYMTYPE: self._symlink,
            tarfile.LNKTYPE: self._hard_link,
            tarfile.CHRTYPE: self._device,
            tarfile.BLKTYPE: self._device,
            tarfile.FIFOTYPE: self._pipe,
            **dict.fromkeys(FILE_TYPES, self._file),
        }

    def _implied(self, path: bytes) -> None:
        # One entry can have two thousand of them.
        self._budget.spend(ENTRY + len(path))
        self._directories[path] = None

    def add(self, info: tarfile.TarInfo) -> None:
        """Make the file that ``info`` describes; the stream stands at its contents."""
        path = raw(info.name)
        self._budget.spend(ENTRY)
        parts = split_path(path)
        maker = self._makers.get(info.type)
        if maker is None:
            raise InputError(f"{shown(path)!r} is of the unknown type {info.type!r}")
        wanted = _attributes(info, path)
        if not parts:
            if not info.isdir():
                raise InputError("the tar archive replaces its root directory")
            # A root that others may not enter, as a careless build leaves it, would be of no use;
            # podman gives its own root directories 0555 whatever the tar says.
            self._directories[b""] = replace(wanted, mode=wanted.mode | 0o555)
            return
        name = parts[-1]
        if name.startswith(WHITEOUT) and name[len(WHITEOUT) :] in (b"", b".", b".."):
            raise InputError(f"{shown(path)!r} is a whiteout of nothing")
        parent, where = self.tree.parent(parts[:-1])
        maker(_Entry(info, parts, join(where, name), parent, wanted))

    def _directory(self, entry: _Entry) -> None:
        status = lstat(entry.name, entry.parent)
        if status is None or not stat.S_ISDIR(status.st_mode):
            self._make(entry, lambda: os.mkdir(entry.name, BUILD_MODE, dir_fd=entry.parent))
        self._directories[entry.path] = entry.attributes

    def _file(self, entry: _Entry) -> None:
        fd = self._make(entry, lambda: os.open(entry.name, CREATE_FILE, 0o600, dir_fd=entry.parent))
        try:
            size = entry.info.size
            # (offset, length) of each piece that is there; the rest of a sparse file is holes.
            sparse: Any = entry.info.sparse
            pieces: list[tuple[int, int]] = [(0, size)] if sparse is None else sparse
            self._stream.seek(entry.info.offset_data)
            for offset, length in pieces:
                if offset < 0 or length < 0 or offset + length > size:
                    raise InputError(f"{shown(entry.path)!r} has an impossible size")
                os.lseek(fd, offset, os.SEEK_SET)
                for data in self._stream.pieces(length):
                    write_all(fd, data)
            if sparse is not None:
                os.ftruncate(fd, size)
            attributes.apply(entry.attributes, fd)
        finally:
            os.close(fd)

    def _symlink(self, entry: _Entry) -> None:
        target = raw(entry.info.linkname)
        if not target or b"\0" in target or len(target) > MAX_PATH:
            raise InputError(f"{shown(entry.path)!r} is a link to an impossible name")
        self._make(entry, lambda: os.symlink(target, entry.name, dir_fd=entry.parent))
        attributes.apply_special(entry.attributes, entry.name, entry.parent)

    def _hard_link(self, entry: _Entry) -> None:
        target = split_path(raw(entry.info.linkname))
        problem = InputError(f"{shown(entry.path)!r} is a hard link to a file that is not there")
        if not target:
            raise problem
        found, where = self.tree.parent(target[:-1])
        if join(where, target[-1]) == entry.path:
            return
        source = os.dup(found)
        try:
            # Asked for last, since changes are made in the directory last asked for.
            parent, _ = self.tree.parent(entry.parts[:-1])

            def link() -> None:
                os.link(
                    target[-1],
                    entry.name,
                    src_dir_fd=source,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                )

            self._make(replace(entry, parent=parent), link)
        except (FileNotFoundError, PermissionError):
            # EPERM is for a target that is a directory.
            raise problem from None
        finally:
            os.close(source)

    def _device(self, entry: _Entry) -> None:
        info = entry.info
        if info.type != tarfile.CHRTYPE or (info.devmajor, info.devminor) != (0, 0):
            log.info("device %r is left out: a repository can't hold devices", shown(entry.path))
            remove(entry.name, entry.parent)
            return
        mode = stat.S_IFCHR | 0o600
        self._make(entry, lambda: os.mknod(entry.name, mode, 0, dir_fd=entry.parent))
        attributes.apply_special(entry.attributes, entry.name, entry.parent)

    def _pipe(self, entry: _Entry) -> None:
        self._make(entry, lambda: os.mkfifo(entry.name, 0o600, dir_fd=entry.parent))
        attributes.apply_special(entry.attributes, entry.name, entry.parent)

    @staticmethod
    def _make(entry: _Entry, make: Callable[[], T]) -> T:
        """Call ``make``; if the name is taken, remove what has it and call it again."""
        try:
            return make()
        except FileExistsError:
            remove(entry.name, entry.parent)
            return make()

    def finish(self) -> frozenset[bytes]:
        """Give all directories their attributes; nothing is written into them any more."""
        implied = set()
        with Cursor(self.tree.root) as at:
            # In the order of the tree each directory is near the one before it.
            for path, wanted in sorted(self._directories.items(), key=lambda each: each[0]):
                try:
                    at.move(path)
                except (FileNotFoundError, NotADirectoryError):
                    # Replaced later by something else, or lying below such a one.
                    continue
                attributes.apply(wanted or DEFAULT_DIRECTORY, at.fd)
                if wanted is None:
                    implied.add(path)
        return frozenset(implied)


def _attributes(info: tarfile.TarInfo, path: bytes) -> Attributes:
    if not (0 <= info.uid <= MAX_ID and 0 <= info.gid <= MAX_ID):
        raise InputError(f"{shown(path)!r} has an impossible owner: {info.uid}:{info.gid}")
    xattrs = {key: value for key, value in xattrs_of(info).items() if attributes.is_kept(key)}
    # tarfile makes a float of a PAX time, too coarse for nanoseconds.
    try:
        nanoseconds = int(Decimal(info.pax_headers.get("mtime", info.mtime)) * 1_000_000_000)
    except (ArithmeticError, ValueError):
        nanoseconds = 0
    mtime_ns = max(-_MAX_TIME, min(_MAX_TIME, nanoseconds))
    return Attributes(info.mode & 0o7777, info.uid, info.gid, mtime_ns, xattrs)
