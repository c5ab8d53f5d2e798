# SPDX-License-Identifier: Apache-2.0
"""The files of an image archive, be it a directory or a tar file."""

from __future__ import annotations

import errno
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO, Protocol

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.lists.layer_stream import compression, decompress
from podman_cvmfs.oci import documents
from podman_cvmfs.publish.source.budget import Budget
from podman_cvmfs.util.below import directory, open_regular

_CHUNK = 256 * 1024
_MAX_LINKS = 10


class Files(Protocol):
    """Files with "/"-separated names; a name that isn't there is an InputError."""

    def stream(self, name: str) -> Iterator[bytes]:
        """The contents of a file, in pieces."""

    def size(self, name: str) -> int:
        """The size of a file in bytes."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def close(self) -> None:
        """Let go of what is open."""


def read(files: Files, name: str, limit: int = documents.MAX_DOCUMENT) -> bytes:
    """The whole contents of a small file; InputError if it is larger than ``limit`` bytes."""
    size = files.size(name)
    if size > limit:
        raise InputError(f"{printable(name)} is too large: {size} bytes")
    return b"".join(files.stream(name))


class DirectoryFiles:
    """The files below a directory.

    Its maker may have put links and pipes into it. No link below it is followed, and only regular
    files are opened. Otherwise files that only the caller can read could be published.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            raise InputError(f"can't read {printable(path)}: {err.strerror}") from None

    def _open(self, name: str) -> IO[bytes]:
        path = printable(os.path.join(self._path, name))
        above, _, last = name.rpartition("/")
        try:
            with directory(os.fsencode(above), self._fd) as fd:
                return os.fdopen(open_regular(last, fd), "rb")
        except (FileNotFoundError, PermissionError) as err:
            raise InputError(f"can't read {path}: {err.strerror}") from None
        except OSError as err:
            if err.errno in (errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.ENXIO):
                raise InputError(
                    f"can't read {path}: a symbolic link or a special file is in its place",
                    "copy the layout with cp -rL, and publish the copy",
                ) from None
            raise InputError(f"can't read {path}: {err.strerror}") from None

    def stream(self, name: str) -> Iterator[bytes]:
        with self._open(name) as file:
            yield from _chunks(file)

    def size(self, name: str) -> int:
        with self._open(name) as file:
            return os.fstat(file.fileno()).st_size

    def has(self, name: str) -> bool:
        # Something else than a file counts: then reading it says what is wrong.
        above, _, last = name.rpartition("/")
        try:
            with directory(os.fsencode(above), self._fd) as fd:
                os.lstat(last, dir_fd=fd)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        os.close(self._fd)


class TarFiles:
    """The files in a tar file, which may be compressed as a whole.

    Decompressed it may take ``max_size`` bytes; if not given, ``Budget`` says it.
    """

    def __init__(self, path: str, max_size: int | None = None) -> None:
        self._max_size = max_size
        self._path = printable(path)
        try:
            # The path is the user's own; what is at its end may be exchanged for a pipe.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            self._file: IO[bytes] = os.fdopen(fd, "rb")
        except OSError as err:
            raise InputError(f"can't read {self._path}: {err.strerror}") from None
        try:
            if compression(self._file.read(6), self._path) != "none":
                self._file = self._unpacked(self._file)
            self._file.seek(0)
            self._archive = tarfile.open(  # noqa: SIM115
                fileobj=self._file, mode="r:", encoding="utf-8", errors="surrogateescape"
            )
            self._members = {_normal(info.name): info for info in self._archive}
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as err:
            self._file.close()
            raise InputError(f"{self._path} is not a tar archive: {printable(str(err))}") from None
        except BaseException:
            self._file.close()
            raise

    def _unpacked(self, file: IO[bytes]) -> IO[bytes]:
        """A compressed archive can't be read in any order: decompress it once."""
        file.seek(0)
        plain = tempfile.TemporaryFile()  # noqa: SIM115
        budget = Budget(self._max_size, plain.fileno())
        try:
            with file:
                for chunk in decompress(_earning(_chunks(file), budget)):
                    budget.spend(len(chunk))
                    plain.write(chunk)
        except BaseException:
            plain.close()
            raise
        return plain

    def _member(self, name: str) -> tarfile.TarInfo:
        path = _normal(name)
        for _ in range(_MAX_LINKS):
            info = self._members.get(path)
            if info is None:
                break
            if info.issym():
                # Docker's older archives hold "../<other layer>/layer.tar".
                path = _normal(posixpath.join(posixpath.dirname(path), info.linkname))
            elif info.islnk():
                path = _normal(info.linkname)
            elif info.isfile():
                return info
            else:
                break
        raise InputError(f"{self._path}: there is no file {printable(name)!r} in it")

    def stream(self, name: str) -> Iterator[bytes]:
        file = self._archive.extractfile(self._member(name))
        assert file is not None
        try:
            with file:
                yield from _chunks(file)
        except tarfile.TarError as err:
            raise InputError(f"{self._path} is damaged: {err}") from None

    def size(self, name: str) -> int:
        return self._member(name).size

    def has(self, name: str) -> bool:
        return _normal(name) in self._members

    def close(self) -> None:
        self._archive.close()
        self._file.close()


def _earning(chunks: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    for chunk in chunks:
        budget.earn(len(chunk))
        yield chunk


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while True:
        chunk = file.read(_CHUNK)
        if not chunk:
            return
        yield chunk
