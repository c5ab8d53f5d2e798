# SPDX-License-Identifier: Apache-2.0
"""A file system that shows a directory as CernVM-FS's client shows a repository.

``python -m tests.support.passthrough MOUNTPOINT OPTIONS``, the latter a JSON object with the fields
of ``Options``, serves it until it is unmounted. What it has of a client (2.12, default options):

* read-only, one owner for all files, permissions checked by the kernel, ``nosuid`` and ``nodev``;
* names have 0 bytes by ``statfs``; hard links are files of their own; times are whole seconds;
* no extended attributes but the client's own, which only the mount point lists;
* at most ``threads`` requests are served at a time. Each ``open`` of an object that isn't in the
  cache is a fetch: it takes ``delay`` seconds and ends with a rename between two directories of
  ``cache``, which is also the process's working directory;
* the kernel remembers names, attributes and pages, so that what is warm is quick.

What it doesn't have: catalogues, and so fetches for directories; chunks; variables in links.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

#: The first libfuse in which the number of threads has a bound (ChangeLog.rst of libfuse).
_BOUNDED = (3, 12)
_TAKEN_OVER = ("st_mode", "st_nlink", "st_size", "st_rdev", "st_blocks")


@dataclass(frozen=True)
class Options:
    """How the client is set up.

    ``owner`` is shown as user and group of all files; None: their own. ``keeps`` false: the cache
    is too small for anything, so that each ``open`` fetches. ``remembered`` is for how many seconds
    the kernel may answer by itself. ``control`` is a file with the fields of ``State``, looked at
    before each answer.
    """

    backing: str
    cache: str
    control: str
    owner: tuple[int, int] | None = (999, 995)
    threads: int = 10
    keeps: bool = True
    remembered: float = 60.0
    repository: str = "unpacked.example.org"


@dataclass(frozen=True)
class State:
    """What changes while the client runs.

    ``broken``: "" for a network that works; "fetches" if fetches fail with EIO, as with a server
    that is down; "all" if everything does. ``delay`` is the seconds that a fetch takes.
    """

    revision: int = 1
    delay: float = 0.0
    broken: str = ""


class Repository:
    """The directory ``options.backing`` as a client shows it: the methods that mfusepy calls."""

    use_ns = True

    def __init__(self, options: Options) -> None:
        self._options = options
        self._kept: set[str] = set()
        self._fetches = itertools.count()
        self._state, self._state_is_of = State(), (0, 0)

    def _now(self) -> State:
        """The state as the control file has it."""
        found = os.stat(self._options.control)
        version = (found.st_mtime_ns, found.st_ino)
        if version != self._state_is_of:
            with open(self._options.control, encoding="utf-8") as file:
                self._state = State(**json.load(file))
            self._state_is_of = version
        return self._state

    def _real(self, path: str) -> str:
        """Where ``path`` is in the backing directory. Raises OSError if everything is broken."""
        if self._now().broken == "all":
            raise OSError(errno.EIO, "broken")
        return self._options.backing + path

    def init(self, path: str) -> None:
        """Go to the cache, as the client does; libfuse has gone to / before."""
        os.chdir(self._options.cache)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """The attributes of a file."""
        found = os.lstat(self._real(path))
        shown = {name: getattr(found, name) for name in _TAKEN_OVER}
        if not stat.S_ISDIR(found.st_mode):
            shown["st_nlink"] = 1
        owner = self._options.owner or (found.st_uid, found.st_gid)
        shown["st_uid"], shown["st_gid"] = owner
        seconds = int(found.st_mtime) * 1_000_000_000
        return {**shown, "st_atime": seconds, "st_mtime": seconds, "st_ctime": seconds}

    def readlink(self, path: str) -> str:
        """The target of a link."""
        return os.readlink(self._real(path))

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, int, int]]:
        """Names and types of what is in a directory."""
        yield from ((name, stat.S_IFDIR, 0) for name in (".", ".."))
        with os.scandir(self._real(path)) as entries:
            for entry in entries:
                yield entry.name, entry.stat(follow_symlinks=False).st_mode, 0

    def open(self, path: str, flags: int) -> int:
        """Open a file; fetch what is in it first."""
        file = os.open(self._real(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._fetch(path)
        except BaseException:
            os.close(file)
            raise
        return file

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Part of a file's content."""
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        """Close a file."""
        os.close(fh)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """The size of the file system. The client doesn't tell how long names may be."""
        return {"f_bsize": 512, "f_frsize": 512, "f_blocks": 1 << 23, "f_namemax": 0}

    def listxattr(self, path: str) -> list[str]:
        """The names of the client's attributes, at the mount point alone."""
        return list(self._attributes(path)) if path == "/" else []

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """One of the client's attributes, which every path has."""
        value = self._attributes(path).get(name)
        if value is None:
            raise OSError(errno.ENODATA, name)
        return value

    def _attributes(self, path: str) -> dict[str, bytes]:
        real, options, state = self._real(path), self._options, self._now()
        root_hash = hashlib.sha1(f"{options.repository} {state.revision}".encode()).hexdigest()
        shown = {
            "user.fqrn": options.repository,
            "user.host": "http://127.0.0.1:1/cvmfs/" + options.repository,
            "user.pid": str(os.getpid()),
            "user.proxy": "DIRECT",
            "user.revision": str(state.revision),
            "user.root_hash": root_hash,
            "user.version": "2.12.7.0",
        }
        if os.path.isfile(real) and not os.path.islink(real):
            found = os.lstat(real)
            shown["user.hash"] = _digest(real, found.st_mtime_ns, found.st_ino)
        return {name: value.encode() for name, value in shown.items()}

    def _fetch(self, path: str) -> None:
        """Have the object ``path`` in the cache. Raises OSError if the server can't be reached."""
        state, options = self._now(), self._options
        if path in self._kept:
            return
        time.sleep(state.delay)
        if state.broken:
            raise OSError(errno.EIO, "no server")
        key = hashlib.sha1(os.fsencode(path)).hexdigest()
        transaction = f"{options.cache}/txn/fetch{next(self._fetches)}"
        os.close(os.open(transaction, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.rename(transaction, f"{options.cache}/{key[:2]}/{key[2:]}")
        if options.keeps:
            self._kept.add(path)


@functools.lru_cache(maxsize=4096)
def _digest(path: str, mtime: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.sha1(file.read()).hexdigest()


def serve(mountpoint: str, options: Options) -> None:
    """Mount the directory and answer requests until it is unmounted."""
    # libfuse 2 would be taken first, and knows no bound.
    os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
    import mfusepy

    if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) < _BOUNDED:
        sys.exit("the number of threads has a bound only from libfuse 3.12 on")
    for name in ("txn", *(f"{number:02x}" for number in range(256))):
        os.makedirs(f"{options.cache}/{name}", exist_ok=True)
    remembered = ("entry_timeout", "attr_timeout", "negative_timeout")
    flags = ("ro", "nosuid", "nodev", "allow_other", "default_permissions", "kernel_cache")
    mfusepy.FUSE(
        Repository(options),
        mountpoint,
        foreground=True,
        fsname="cvmfs2",
        subtype="passthrough",
        max_threads=options.threads,
        **dict.fromkeys(remembered, options.remembered),
        **dict.fromkeys(flags, True),
    )


def command(mountpoint: str, options: Options) -> list[str]:
    """The command line that serves it."""
    return [
        sys.executable,
        "-m",
        "tests.support.passthrough",
        mountpoint,
        json.dumps(asdict(options)),
    ]


if __name__ == "__main__":
    wanted = json.loads(sys.argv[2])
    serve(sys.argv[1], Options(**{**wanted, "owner": wanted["owner"] and tuple(wanted["owner"])}))
