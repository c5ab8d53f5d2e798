# SPDX-License-Identifier: Apache-2.0
"""Works inside one directory tree and never leaves it, whatever names and links say.

Every step goes through a directory's file descriptor and follows no symbolic link by itself. If an
entry's path leads through a link in the tree, the link is resolved as if the tree were the root
file system. podman, which unpacks in a chroot, does the same. Names are bytes: images hold names in
any encoding.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.publish.unpack.cursor import Cursor
from podman_cvmfs.util.below import open_directory

#: Linux' own limits: PATH_MAX, and links followed in one path.
MAX_PATH = 4095
_MAX_LINKS = 40
#: Hardly an image has a way of more directories.
_SHORT_WAY = 32

CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: While a tree is being built its directories are ours alone; their own modes come last.
BUILD_MODE = 0o700


def shown(path: bytes) -> str:
    """``path`` for a message: odd bytes and control characters escaped."""
    return printable(path.decode("utf-8", "surrogateescape"))[:300]


def join(above: bytes, name: bytes) -> bytes:
    """The path of ``name`` in the directory ``above``, which may be b"", the root."""
    return above + b"/" + name if above else name


def lstat(name: bytes, dir_fd: int) -> os.stat_result | None:
    """What ``name`` itself is; None if there is no such thing."""
    try:
        return os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return None


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however little the kernel takes at once."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def split_path(path: bytes) -> tuple[bytes, ...]:
    """Split an entry's path into its components, taken relative to the root of the tree.

    As in podman, ``..`` is removed with the name before it, whatever that is. InputError if it
    leads to the root or out of it, and for an impossible path.
    """
    if b"\0" in path or len(path) > MAX_PATH:
        raise InputError(f"the tar archive holds an impossible name: {shown(path)!r}")
    out = InputError(f"the tar archive holds a name with '..' that leads out: {shown(path)!r}")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise out
    if not parts and b".." in path:
        raise out
    return tuple(parts)


def remove(name: bytes, dir_fd: int) -> None:
    """Remove ``name``, whatever it is, with everything below it; links are removed, not
    followed."""
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except OSError as err:
        # Linux says EISDIR, POSIX and some network file systems EPERM.
        if err.errno not in (errno.EISDIR, errno.EPERM):
            raise
        if not stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
            raise
    # No recursion: a tree may be deeper than Python's stack and the limit of open files.
    with Cursor(dir_fd) as at:
        at.down(name)
        pending = [_empty(at.fd)]
        while pending:
            if pending[-1]:
                at.down(pending[-1].pop())
                pending.append(_empty(at.fd))
            else:
                pending.pop()
                os.rmdir(at.up(), dir_fd=at.fd)


def _empty(fd: int) -> list[bytes]:
    """Remove everything except directories from the open directory; return the directories'
    names."""
    directories = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                directories.append(name)
            else:
                os.unlink(name, dir_fd=fd)
    return directories


@dataclass
class BuildTree:
    """A directory tree under construction below ``root``, a descriptor that stays the caller's.

    ``on_create`` is told the path of each directory that had to be made on the way to an entry,
    ``on_step`` is called for each directory of a long way. Both may raise an error.
    """

    root: int
    on_create: Callable[[bytes], None]
    on_step: Callable[[], None]
    #: The last result of ``parent``: entries of one directory mostly follow one another. Changes
    #: are made only in that directory, so none can invalidate it.
    _cached: tuple[tuple[bytes, ...], int, bytes] | None = field(default=None, init=False)

    def close(self) -> None:
        """Close what is open."""
        if self._cached is not None:
            os.close(self._cached[1])
            self._cached = None

    def parent(self, parts: tuple[bytes, ...]) -> tuple[int, bytes]:
        """Return a descriptor of the directory ``parts`` name, and its path without links.

        Missing directories are made. The descriptor is good until the next call, and changes may
        be made in that directory only. InputError if something is in the way.
        """
        if self._cached is None or self._cached[0] != parts:
            fd, path = self._walk(parts)
            self.close()
            self._cached = (parts, fd, path)
        return self._cached[1], self._cached[2]

    def _start(self, parts: tuple[bytes, ...]) -> tuple[int, list[bytes], tuple[bytes, ...]]:
        """Where the walk to ``parts`` begins: a descriptor, its path's names, the parts left."""
        if self._cached is not None:
            known, fd, path = self._cached
            if parts[: len(known)] == known:
                # A directory below the last one, as in a tree that is packed from the top.
                return os.dup(fd), path.split(b"/") if path else [], parts[len(known) :]
        return os.dup(self.root), [], parts

    def _walk(self, parts: tuple[bytes, ...]) -> tuple[int, bytes]:
        fd, names, left = self._start(parts)
        pending = list(reversed(left))
        links = steps = 0
        try:
            while pending:
                name = pending.pop()
                steps += 1
                if steps > _SHORT_WAY:
                    self.on_step()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    # Only a link's target can hold it. "/.." is "/", as everywhere.
                    restart = names[:-1]
                else:
                    target = self._enter(name, fd, names)
                    if isinstance(target, int):
                        os.close(fd)
                        fd = target
                        names.append(name)
                        continue
                    links += 1
                    if links > _MAX_LINKS:
                        raise InputError(f"too many links on the way to {shown(name)!r}")
                    restart = [] if target.startswith(b"/") else names
                    pending.extend(reversed(target.split(b"/")))
                pending.extend(reversed(restart))
                names = []
                os.close(fd)
                fd = os.dup(self.root)
                if len(pending) > MAX_PATH:
                    raise InputError(f"the path to {shown(name)!r} is too long")
            path = b"/".join(names)
            if len(path) > MAX_PATH:
                raise InputError(f"the path to {shown(path)!r} is too long")
        except BaseException:
            os.close(fd)
            raise
        return fd, path

    def _enter(self, name: bytes, fd: int, names: list[bytes]) -> int | bytes:
        """Open the directory ``name``, making it if it is missing; a link's target if it is one."""
        for _ in range(2):
            try:
                return open_directory(name, fd)
            except FileNotFoundError:
                os.mkdir(name, BUILD_MODE, dir_fd=fd)
                self.on_create(b"/".join([*names, name]))
            except OSError as err:
                if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                try:
                    return os.readlink(name, dir_fd=fd)
                except OSError:
                    path = shown(b"/".join([*names, name]))
                    raise InputError(f"{path!r} is used as a directory but isn't one") from None
        raise AssertionError("unreachable")
