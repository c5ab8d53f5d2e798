# SPDX-License-Identifier: Apache-2.0
"""New files of a repository as a tar, and their ingestion by CernVM-FS's server.

``cvmfs_server ingest`` (cvmfs 2.12 ``cvmfs/server/cvmfs_server_ingest.sh``,
``cvmfs/sync_union_tarball.cc``) adds the content of one tar in one transaction, or nothing of it.
Unlike ``cvmfs_server publish``, which deletes what a file ``.wh.NAME`` names, it takes such files
for files. A regular file ``.cvmfscatalog`` makes its directory a catalogue of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from typing import IO

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.publish.unpack.cursor import Cursor
from podman_cvmfs.repository.layout import FLAT_PATTERN, LAYER_FILES_PATTERN
from podman_cvmfs.util.below import OPEN_DIRECTORY, open_regular

#: Makes a directory a catalogue of its own.
CATALOGUE = ".cvmfscatalog"
_OWN_CATALOGUE = re.compile(f"(?:{LAYER_FILES_PATTERN}|{FLAT_PATTERN})\\Z")
#: What publishers keep in a directory for themselves.
_OURS = ".podman-cvmfs-"
_TOLD = 2000


def ingest(name: str, staging: str) -> None:
    """Add all files of the directory ``staging`` to the CernVM-FS repository ``name``.

    This is one transaction. Raises RepositoryError if CernVM-FS refuses it, and then nothing was
    added; OSError if ``staging`` can't be read.
    """
    # -k keeps the owners of the tar; versions without it ignore the word.
    argv = ["cvmfs_server", "ingest", "-k", "-t", "-", "-b", "/", name]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A Control-C ends the server by what we write, not in the middle.
            start_new_session=True,
        )
    except OSError as err:
        raise _missing(err) from None
    assert process.stdin is not None
    try:
        # The server may stop reading; why, it says itself.
        with contextlib.suppress(BrokenPipeError):
            write_tar(staging, process.stdin)
    except BaseException:
        # A tar that merely ends would be published as far as it goes. A file without its data is an
        # error to the server.
        torn = tarfile.TarInfo(f"{_OURS}torn")
        torn.size = tarfile.BLOCKSIZE
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(torn.tobuf(tarfile.PAX_FORMAT))
        process.communicate()
        raise
    said, _ = process.communicate()
    _check(name, process.returncode, said)


def run_server(*words: str) -> None:
    """Run ``cvmfs_server WORDS``, whose last word is the repository. Raises RepositoryError."""
    try:
        process = subprocess.Popen(
            ["cvmfs_server", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as err:
        raise _missing(err) from None
    try:
        said, _ = process.communicate()
    except BaseException:
        # After a Control-C the server goes on to its end: half a transaction helps nobody.
        said, _ = process.communicate()
        _check(words[-1], process.returncode, said)
        raise
    _check(words[-1], process.returncode, said)


def _missing(err: OSError) -> RepositoryError:
    return RepositoryError(
        f"can't run cvmfs_server: {err.strerror}", "install the server of CernVM-FS"
    )


def _check(name: str, status: int, said: bytes) -> None:
    if status != 0:
        lines = said.decode("utf-8", "replace").strip()[-_TOLD:].splitlines()
        raise RepositoryError(
            f"cvmfs_server can't publish into {name}: {printable(' '.join(lines[-3:]))}",
            f"nothing was published; if a transaction is open, and nobody works on it, run: "
            f"cvmfs_server abort {name}",
        )


def write_tar(directory: str, out: IO[bytes]) -> None:
    """Write everything below ``directory`` to ``out`` as a tar (POSIX.1-2001, pax).

    Owners, modes, times, links and extended attributes are kept. Each layer's files and each merged
    root become a catalogue of their own. Raises OSError.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        first: dict[tuple[int, int], str] = {}
        for path, name, dir_fd, status in _walk(directory):
            member = _member(path, name, status, dir_fd)
            if stat.S_ISREG(status.st_mode):
                if status.st_nlink > 1:
                    known = first.setdefault((status.st_dev, status.st_ino), path)
                    if known != path:
                        member.type, member.linkname, member.size = tarfile.LNKTYPE, known, 0
                        tar.addfile(member)
                        continue
                with os.fdopen(open_regular(name, dir_fd), "rb") as file:
                    tar.addfile(member, file)
                continue
            tar.addfile(member)
            if stat.S_ISDIR(status.st_mode) and _OWN_CATALOGUE.match(path):
                with contextlib.suppress(FileNotFoundError):
                    os.lstat(f"{name}/{CATALOGUE}", dir_fd=dir_fd)
                    continue
                tar.addfile(tarfile.TarInfo(f"{path}/{CATALOGUE}"))


def _walk(directory: str) -> Iterator[tuple[str, str, int, os.stat_result]]:
    """Path, name, open parent directory and attributes of everything below, parents first, in
    order. The parent is open until the next one is asked for."""
    root = os.open(directory, OPEN_DIRECTORY)
    try:
        # No recursion, as os.fwalk has it: an image may be deeper than Python's stack.
        with Cursor(root) as at:
            left = [[name for name in _names(root) if not name.startswith(_OURS)]]
            above = ""
            while left:
                if left[-1]:
                    name = left[-1].pop()
                    path = f"{above}/{name}" if above else name
                    status = os.lstat(name, dir_fd=at.fd)
                    yield path, name, at.fd, status
                    if stat.S_ISDIR(status.st_mode):
                        at.down(os.fsencode(name))
                        left.append(_names(at.fd))
                        above = path
                    continue
                left.pop()
                if left:
                    at.up()
                    above = above.rpartition("/")[0]
    finally:
        os.close(root)


def _names(fd: int) -> list[str]:
    """The names in an open directory, the first one last."""
    return sorted(os.listdir(fd), reverse=True)


def _member(path: str, name: str, status: os.stat_result, dir_fd: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mode = stat.S_IMODE(status.st_mode)
    member.uid, member.gid, member.mtime = status.st_uid, status.st_gid, status.st_mtime
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        member.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=dir_fd)
    elif kind == stat.S_IFIFO:
        member.type = tarfile.FIFOTYPE
    elif kind == stat.S_IFCHR:
        member.type = tarfile.CHRTYPE
    else:
        member.size = status.st_size
    member.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
        for key, value in _attributes(name, kind, dir_fd).items()
    }
    return member


def _attributes(name: str, kind: int, dir_fd: int) -> dict[str, bytes]:
    """The extended attributes of a file or directory."""
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return {}
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=dir_fd) if kind == stat.S_IFDIR else -1
    if fd < 0:
        fd = open_regular(name, dir_fd)
    try:
        return {key: os.getxattr(fd, key) for key in os.listxattr(fd)}
    except OSError as err:
        if err.errno == errno.ENOTSUP:
            return {}
        raise
    finally:
        os.close(fd)
