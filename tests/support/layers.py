# SPDX-License-Identifier: Apache-2.0
"""Layer tars written entry by entry: every byte is the same on every run.

Python's own tar writer marks raw bytes in PAX records with ``hdrcharset=BINARY``, which the
tools that make images never do; so the records are written here.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

#: All files' time of change: 2020-09-13, a whole number of seconds.
MTIME = 1_600_000_000

#: cap_net_bind_service=ep as the kernel's vfs_cap_data, version 2, stores it.
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@dataclass(frozen=True)
class Entry:
    """One entry of a layer. ``path`` has neither a slash in front nor one at the end."""

    path: bytes
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: bytes = b""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def file(
    path: str | bytes,
    data: str | bytes = b"",
    mode: int = 0o644,
    owner: int = 0,
    xattrs: Mapping[str, bytes] | None = None,
) -> Entry:
    """A regular file; ``owner`` is both uid and gid."""
    data = _bytes(data)
    return Entry(_bytes(path), tarfile.REGTYPE, data, mode, owner, owner, b"", xattrs or {})


def directory(path: str | bytes, mode: int = 0o755, owner: int = 0) -> Entry:
    """A directory."""
    return Entry(_bytes(path), tarfile.DIRTYPE, b"", mode, owner, owner)


def symlink(path: str | bytes, target: str | bytes) -> Entry:
    """A symbolic link."""
    return Entry(_bytes(path), tarfile.SYMTYPE, mode=0o777, target=_bytes(target))


def hardlink(path: str | bytes, target: str | bytes) -> Entry:
    """Another name of a file that stands earlier in the same layer."""
    return Entry(_bytes(path), tarfile.LNKTYPE, target=_bytes(target))


def fifo(path: str | bytes) -> Entry:
    """A named pipe."""
    return Entry(_bytes(path), tarfile.FIFOTYPE)


def whiteout(path: str) -> Entry:
    """The deletion of ``path`` (OCI image-spec ``layer.md``, "Whiteouts")."""
    parent, slash, name = path.rpartition("/")
    return file(f"{parent}{slash}.wh.{name}")


def opaque(path: str) -> Entry:
    """The marker that hides what lower layers have in the directory ``path``."""
    return file(f"{path}/.wh..wh..opq")


def pax(records: Mapping[str, bytes]) -> bytes:
    """A PAX extended header (POSIX.1-2008 pax, "pax Extended Header") with raw values."""
    body = b""
    for key, value in records.items():
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        body += str(length).encode() + rest
    info = tarfile.TarInfo("PaxHeader")
    info.type = tarfile.XHDTYPE
    info.size = len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + padded(body)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % tarfile.BLOCKSIZE)


def tar(entries: Sequence[Entry]) -> bytes:
    """Write the entries as an uncompressed tar."""
    out = []
    for entry in entries:
        if entry.xattrs:
            out.append(pax({f"SCHILY.xattr.{k}": v for k, v in entry.xattrs.items()}))
        info = tarfile.TarInfo(entry.path.decode("utf-8", "surrogateescape"))
        info.type, info.mode, info.mtime = entry.kind, entry.mode, MTIME
        info.uid, info.gid, info.size = entry.uid, entry.gid, len(entry.data)
        info.linkname = entry.target.decode("utf-8", "surrogateescape")
        # GNU's form takes names as raw bytes and large owners; PAX would re-encode them.
        out.append(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        out.append(padded(entry.data))
    return b"".join(out) + bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Blob:
    """A layer as it travels: compressed bytes, their digest, and the digest of the tar."""

    data: bytes
    diff_id: str
    compression: str

    @property
    def digest(self) -> str:
        """``sha256:..`` of the blob."""
        return sha256(self.data)


def sha256(data: bytes) -> str:
    """The digest of ``data`` as manifests spell it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def pack(entries: Sequence[Entry], compression: str = "gzip") -> Blob:
    """Write and compress a layer: ``gzip``, ``zstd`` or ``plain``."""
    plain = tar(entries)
    data = {
        "gzip": lambda: gzip.compress(plain, mtime=0),
        "zstd": lambda: zstandard.ZstdCompressor().compress(plain),
        "plain": lambda: plain,
    }[compression]()
    return Blob(data, sha256(plain), compression)
