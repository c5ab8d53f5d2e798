# SPDX-License-Identifier: Apache-2.0
"""A file system that shows a directory as CernVM-FS's client shows a repository.

``python -m tests.support.passthrough MOUNTPOINT OPTIONS``, the latter a JSON object with the fields
of ``Options``, serves it until it is unmounted. What it has of a client (2.12, default options):

* read-only, one owner for all files, permissions checked by the kernel, ``nosuid`` and ``nodev``;
* names have 0 bytes by ``statfs``; hard links are files of their own; times are whole seconds;
* no extended attributes but the client's own, which only the mount point lists;
* variables in links are replaced;
* at most ``threads`` requests are served at a time. Each file and each catalogue that isn't in the
  cache is fetched: that takes ``delay`` seconds, and ends with a rename between two directories of
  ``cache``, which is also the process's working directory;
* without a server, what is in the cache is shown, and all else is an error;
* the kernel remembers names, attributes and pages, so that what is warm is quick.

The catalogues of layers and merged roots can be fetched from its server, on loopback. The others
have hashes, but nobody can fetch them.

What it doesn't have: chunks, and counters of anything but bytes and directories. What DUCC loses
before any client comes is in ``ducc_losses``.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.support import catalogues
from tests.support.catalogues import Server
from tests.support.passthrough_cache import Cache, State, catalogues_above, is_last

#: The first libfuse in which the number of threads has a bound (ChangeLog.rst of libfuse).
_BOUNDED = (3, 12)
_TAKEN_OVER = ("st_mode", "st_nlink", "st_size", "st_rdev", "st_blocks")
#: In a link; what is behind ``:-`` stands for a variable that isn't set.
_VARIABLE = re.compile(r"\$\((\w+)(?::-([^)]*))?\)")
#: An attribute that no client has: a JSON object of how often what was asked for.
COUNTS = "user.emulation.counts"


@dataclass(frozen=True)
class Options:
    """How the client is set up.

    ``owner`` is shown as user and group of all files; None: their own. ``keeps`` false: the cache
    is too small for any file, so that each ``open`` fetches. ``remembered`` is for how many seconds
    the kernel may answer by itself. ``control`` is a file with the fields of ``State``, looked at
    before each answer. ``attributes`` false: the client hides its own. ``host`` is the address of
    its server; "" is one of its own, which serves catalogues. ``proxy`` is what it calls its proxy.
    """

    backing: str
    cache: str
    control: str
    owner: tuple[int, int] | None = (999, 995)
    threads: int = 10
    keeps: bool = True
    remembered: float = 60.0
    repository: str = "unpacked.example.org"
    attributes: bool = True
    host: str = ""
    proxy: str = "DIRECT"


class Repository:
    """The directory ``options.backing`` as a client shows it: the methods that mfusepy calls."""

    use_ns = True

    def __init__(self, options: Options) -> None:
        self._options = options
        self._cache = Cache(options.cache, options.keeps)
        self._state, self._state_is_of = State(), (0, 0)
        self._catalogues: dict[tuple[int, str], str] = {}
        self._objects: dict[str, bytes] = {}
        self._host = options.host or Server(self._object).address

    def _object(self, name: str) -> bytes | None:
        """An object of the server, by its hash and suffix."""
        state = self._now()
        self._cache.count("object")
        time.sleep(state.delay)
        return None if state.broken else self._objects.get(name)

    def _hash(self, catalogue: str, revision: int) -> str:
        """The hash of the catalogue of a layer or a merged root, which is made on demand."""
        key = revision, catalogue
        if key not in self._catalogues:
            found, stored = catalogues.stored(
                catalogues.database(self._options.backing + catalogue, catalogue)
            )
            self._objects[f"{found}C"] = stored
            self._catalogues[key] = found
        return self._catalogues[key]

    def _now(self) -> State:
        """The state as the control file has it."""
        found = os.stat(self._options.control)
        version = (found.st_mtime_ns, found.st_ino)
        if version != self._state_is_of:
            with open(self._options.control, encoding="utf-8") as file:
                self._state = State(**json.load(file))
            self._state_is_of = version
        return self._state

    def _real(self, path: str, asked: str, *, below: bool = False) -> str:
        """Where ``path`` is in the backing directory, once the catalogues for it are there;
        ``below``: also for what is in it. ``asked`` is counted. Raises OSError if they can't be
        had, or if everything is broken."""
        state = self._now()
        self._cache.count(asked)
        if state.broken == "all":
            raise OSError(errno.EIO, "broken")
        self._cache.have_catalogues(path, state, below=below)
        return self._options.backing + path

    def init(self, path: str) -> None:
        """Go to the cache, as the client does; libfuse has gone to / before."""
        os.chdir(self._options.cache)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """The attributes of a file."""
        found = os.lstat(self._real(path, "lookup"))
        shown = {name: getattr(found, name) for name in _TAKEN_OVER}
        if not stat.S_ISDIR(found.st_mode):
            shown["st_nlink"] = 1
        owner = self._options.owner or (found.st_uid, found.st_gid)
        shown["st_uid"], shown["st_gid"] = owner
        seconds = int(found.st_mtime) * 1_000_000_000
        return {**shown, "st_atime": seconds, "st_mtime": seconds, "st_ctime": seconds}

    def readlink(self, path: str) -> str:
        """The target of a link."""
        target = os.readlink(self._real(path, "readlink"))
        return _VARIABLE.sub(lambda found: os.environ.get(found[1]) or found[2] or "", target)

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, int, int]]:
        """Names and types of what is in a directory."""
        yield from ((name, stat.S_IFDIR, 0) for name in (".", ".."))
        with os.scandir(self._real(path, "readdir", below=True)) as entries:
            for entry in entries:
                yield entry.name, entry.stat(follow_symlinks=False).st_mode, 0

    def open(self, path: str, flags: int) -> int:
        """Open a file; fetch what is in it first."""
        real = self._real(path, "open")
        file = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._cache.have_file(path, self._now())
        except BaseException:
            os.close(file)
            raise
        return file

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Part of a file's content."""
        self._cache.count("read")
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
        self._real(path, "listxattr")
        hidden = path != "/" or not self._options.attributes
        return [] if hidden else list(self._attributes(path, self._options.backing))

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """One of the client's attributes, which every path has."""
        if name == COUNTS:
            return json.dumps(self._cache.counts).encode()
        real = self._real(path, "getxattr", below=name == "user.catalog_counters")
        shown = self._attributes(path, real, name) if self._options.attributes else {}
        if name == "user.hash" and shown and stat.S_ISREG(os.lstat(real).st_mode):
            found = os.lstat(real)
            return _digest(real, found.st_mtime_ns, found.st_ino).encode()
        if name not in shown:
            raise OSError(errno.ENODATA, name)
        return shown[name].encode()

    def _attributes(self, path: str, real: str, name: str = "") -> dict[str, str]:
        options, state = self._options, self._now()
        root_hash = hashlib.sha1(f"{options.repository} {state.revision}".encode()).hexdigest()
        catalogue = next(reversed(catalogues_above(path, os.path.isdir(real))), "")
        is_fetchable = is_last(catalogue) and name == "user.catalog_counters"
        catalogue_hash = (
            self._hash(catalogue, state.revision)
            if is_fetchable
            else hashlib.sha1(f"{root_hash} {catalogue}".encode()).hexdigest()
        )
        fetched = self._cache.counts["file"] + self._cache.counts["catalogue"]
        return {
            "user.catalog_counters": f"catalog_hash: {catalogue_hash if catalogue else root_hash}\n"
            f"catalog_mountpoint: {catalogue}\n"
            f"{_counted(options.backing + catalogue) if is_last(catalogue) else ''}",
            "user.fqrn": options.repository,
            "user.host": f"{self._host}/cvmfs/{options.repository}",
            "user.logbuffer": self._cache.messages(state),
            "user.ndownload": str(fetched),
            "user.nioerr": str(self._cache.errors),
            "user.pid": str(os.getpid()),
            "user.proxy": options.proxy,
            "user.revision": str(state.revision),
            "user.root_hash": root_hash,
            "user.timestamp_last_ioerr": str(self._cache.last_error),
            "user.version": "2.12.7.0",
        }


@functools.lru_cache(maxsize=4096)
def _counted(directory: str) -> str:
    """The client's counters of a catalogue with none below it: directories, and what files hold."""
    size = directories = 0
    for place, _, names in os.walk(directory):
        directories += 1
        for found in (os.lstat(f"{place}/{name}") for name in names):
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    counted = f"self_dir,{directories}\nsubtree_dir,0\n"
    return f"{counted}self_file_size,{size}\nsubtree_file_size,0\n"


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
    threading.Thread(target=_end_with, args=(os.getppid(), mountpoint), daemon=True).start()
    remembered = ("entry_timeout", "attr_timeout", "negative_timeout")
    flags = ("ro", "nosuid", "nodev", "allow_other", "default_permissions", "kernel_cache")
    mfusepy.FUSE(
        Repository(options),
        mountpoint,
        foreground=True,
        fsname="cvmfs2",
        max_threads=options.threads,
        **dict.fromkeys(remembered, options.remembered),
        **dict.fromkeys(flags, True),
    )


def _end_with(parent: int, mountpoint: str) -> None:
    """Unmount and end once the test is gone, however it ended: nobody may meet what it has left."""
    while os.getppid() == parent:
        time.sleep(0.5)
    subprocess.run(["umount", "--lazy", mountpoint], check=False)
    os._exit(1)


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
