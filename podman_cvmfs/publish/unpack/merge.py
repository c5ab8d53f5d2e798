# SPDX-License-Identifier: Apache-2.0
"""Merges unpacked layers into one root file system, as OCI image-spec v1.1 ``layer.md`` says.

In each directory a layer's whiteouts act first, and so only on what lower layers put there:
``.wh.x`` and ``x`` may stand side by side. Files are copied, not linked, so that a file in a
container has the link count and the inode of the image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from podman_cvmfs.publish.source.budget import ENTRY
from podman_cvmfs.publish.unpack import attributes
from podman_cvmfs.publish.unpack.attributes import DEFAULT_DIRECTORY
from podman_cvmfs.publish.unpack.cursor import Cursor
from podman_cvmfs.publish.unpack.layer import META, OPAQUE, WHITEOUT
from podman_cvmfs.publish.unpack.safe_tree import (
    BUILD_MODE,
    CREATE_FILE,
    join,
    lstat,
    remove,
    write_all,
)

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Layer:
    """An unpacked layer: its ``layerfs`` as a descriptor, and the directories it only implies."""

    root: int
    implied: frozenset[bytes]


class Merger:
    """Builds a merged root file system in the empty directory open as ``root``."""

    def __init__(self, root: int) -> None:
        self.root = root
        #: Path of a merged directory -> the descriptor of the layer whose attributes it has.
        self._owners: dict[bytes, int | None] = {b"": None}

    def add(self, layer: Layer, spend: Callable[[int], None] | None = None) -> None:
        """Put ``layer`` on top of those added before. Its ``root`` must stay open.

        ``spend`` is told the size of each file, and may raise an error.
        """
        with Cursor(layer.root) as source, Cursor(self.root) as target, Cursor(self.root) as other:
            _Merge(layer, source, target, other, self._claim, spend).run()
        self._claim(b"", layer, False)

    def _claim(self, path: bytes, layer: Layer, fresh: bool) -> None:
        """Note that ``path`` has the attributes of ``layer``, unless the layer only implies it."""
        if path not in layer.implied:
            self._owners[path] = layer.root
        elif fresh:
            self._owners[path] = None

    def finish(self) -> None:
        """Give every directory its attributes; nothing is written into them any more."""
        of_owner: dict[int | None, list[bytes]] = {}
        for path, owner in self._owners.items():
            of_owner.setdefault(owner, []).append(path)
        with Cursor(self.root) as target:
            for owner, paths in of_owner.items():
                # What no layer describes has no source; any open directory will do.
                with Cursor(self.root if owner is None else owner) as source:
                    for path in sorted(paths):
                        try:
                            target.move(path)
                        except (FileNotFoundError, NotADirectoryError):
                            # A higher layer removed it.
                            continue
                        wanted = DEFAULT_DIRECTORY
                        if owner is not None:
                            wanted = attributes.of_file(source.move(path))
                        attributes.apply(wanted, target.fd)


class _Merge:
    """One layer's way into the merged root; ``other`` is for the second names of files."""

    def __init__(
        self,
        layer: Layer,
        source: Cursor,
        target: Cursor,
        other: Cursor,
        claim: Callable[[bytes, Layer, bool], None],
        spend: Callable[[int], None] | None,
    ) -> None:
        self._spend = spend
        self._layer = layer
        self._source = source
        self._target = target
        self._other = other
        self._claim = claim
        #: A file with several names in this layer -> the name it was first merged under.
        self._names: dict[int, bytes] = {}
        self._only_markers: frozenset[bytes] | None = None

    def run(self) -> None:
        pending = [b""]
        while pending:
            path = pending.pop()
            source, target = self._source.move(path), self._target.move(path)
            entries = sorted(os.fsencode(name) for name in os.listdir(source))
            self._hide(entries, target)
            for name in entries:
                if name.startswith(WHITEOUT):
                    continue
                if self._merge(path, name, source, target):
                    pending.append(join(path, name))

    @staticmethod
    def _hide(entries: list[bytes], target: int) -> None:
        """Apply a directory's whiteouts to what lower layers have there."""
        if OPAQUE in entries:
            for name in os.listdir(target):
                remove(os.fsencode(name), target)
            return
        for entry in entries:
            hidden = entry[len(WHITEOUT) :]
            # The layer may be another publisher's, who let ".wh..." pass.
            is_name = hidden not in (b"", b".", b"..")
            if entry.startswith(WHITEOUT) and not entry.startswith(META) and is_name:
                remove(hidden, target)

    def _merge(self, above: bytes, name: bytes, source: int, target: int) -> bool:
        """Merge one entry; True if it is a directory, which has then to be entered."""
        path = join(above, name)
        status = os.lstat(name, dir_fd=source)
        if self._spend is not None:
            self._spend(ENTRY + status.st_blocks * 512)
        present = lstat(name, target)
        if stat.S_ISDIR(status.st_mode):
            fresh = present is None or not stat.S_ISDIR(present.st_mode)
            if fresh and self._is_only_for_markers(path):
                # Nothing is there to be hidden, and hiding it makes no directory.
                return False
            if fresh:
                remove(name, target)
                os.mkdir(name, BUILD_MODE, dir_fd=target)
            self._claim(path, self._layer, fresh)
            return True
        if present is not None:
            remove(name, target)
        if stat.S_ISCHR(status.st_mode):
            # 0:0, the only one unpacked: overlayfs' own whiteout, and so never seen itself.
            return False
        if status.st_ino in self._names:
            first = self._names[status.st_ino]
            above_first, _, last = first.rpartition(b"/")
            where = self._other.move(above_first)
            os.link(last, name, src_dir_fd=where, dst_dir_fd=target, follow_symlinks=False)
            return False
        if status.st_nlink > 1:
            self._names[status.st_ino] = path
        _copy(name, status, source, target)
        return False

    def _is_only_for_markers(self, path: bytes) -> bool:
        """Whether a directory that the layer only implies exists only because of whiteouts."""
        if path not in self._layer.implied:
            return False
        if self._only_markers is None:
            self._only_markers = _holding_only_markers(self._layer)
        return path in self._only_markers


def _holding_only_markers(layer: Layer) -> frozenset[bytes]:
    """The implied directories with only whiteouts and directories of this kind.

    From the bottom up, so that each directory is looked through once.
    """
    found: set[bytes] = set()
    with Cursor(layer.root) as at:
        for path in sorted(layer.implied - {b""}, reverse=True):
            try:
                at.move(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            with os.scandir(at.fd) as entries:
                if all(_is_marker(entry, path, found, at.fd) for entry in entries):
                    found.add(path)
    return frozenset(found)


def _is_marker(entry: os.DirEntry[str], above: bytes, found: set[bytes], dir_fd: int) -> bool:
    name = os.fsencode(entry.name)
    if name.startswith(WHITEOUT):
        return True
    if entry.is_dir(follow_symlinks=False):
        return join(above, name) in found
    if entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return False
    return stat.S_ISCHR(os.lstat(name, dir_fd=dir_fd).st_mode)


def _copy(name: bytes, status: os.stat_result, source: int, target: int) -> None:
    if stat.S_ISREG(status.st_mode):
        _copy_file(name, source, target)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mkfifo(name, 0o600, dir_fd=target)
    attributes.apply_special(attributes.of_special(name, source), name, target)


def _copy_file(name: bytes, source: int, target: int) -> None:
    reading = os.open(name, _OPEN_FILE, dir_fd=source)
    try:
        writing = os.open(name, CREATE_FILE, 0o600, dir_fd=target)
        try:
            _copy_contents(reading, writing)
            attributes.apply(attributes.of_file(reading), writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_contents(reading: int, writing: int) -> None:
    """Copy a file and its holes; the kernel shares the blocks where the file system can."""
    size = os.fstat(reading).st_size
    end = 0
    while end < size:
        try:
            start = os.lseek(reading, end, os.SEEK_DATA)
        except OSError as err:
            if err.errno != errno.ENXIO:
                raise
            # Nothing but a hole is left.
            break
        end = os.lseek(reading, start, os.SEEK_HOLE)
        os.lseek(reading, start, os.SEEK_SET)
        os.lseek(writing, start, os.SEEK_SET)
        _copy_range(reading, writing, end - start)
    os.ftruncate(writing, size)


def _copy_range(reading: int, writing: int, count: int) -> None:
    while count:
        try:
            done = os.copy_file_range(reading, writing, min(count, _CHUNK))
        except OSError as err:
            # Between some file systems the kernel can't; the classic way always works.
            if err.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            data = os.read(reading, min(count, _CHUNK))
            write_all(writing, data)
            done = len(data)
        if not done:
            raise OSError(errno.EIO, "a layer's file became shorter while it was copied")
        count -= done
