# SPDX-License-Identifier: Apache-2.0
"""Caches, and archives of them."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from podman_cvmfs.cache.archive import export_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.documents import OCI_CONFIG, OCI_MANIFEST, Digest

BLOBS = [b"", b"one", b"x" * 512, b"y" * 5000, b'{"architecture": "amd64"}']


def filled(directory: Path, blobs: Iterable[bytes] = BLOBS) -> BlobCache:
    """A cache with these blobs."""
    made = BlobCache(str(directory))
    for blob in blobs:
        made.put(blob)
    return made


def exported(held: BlobCache) -> bytes:
    """The archive of a cache."""
    output = io.BytesIO()
    export_cache(held, output)
    return output.getvalue()


def files(directory: Path) -> dict[str, bytes]:
    """The content of every file below a directory, by its path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def name_of(data: bytes, kind: str = "sha256") -> str:
    """Where a cache and its archive have a blob."""
    digest = Digest.of(data).hex
    return f"{kind}/{digest[:2]}/{digest}"


def manifest_of(config: Digest, **annotations: str) -> bytes:
    """A manifest of the image with this config."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": str(config), "size": 5},
            "layers": [],
            "annotations": annotations,
        }
    ).encode()


IMAGE = Digest("1" * 64)
GENUINE, OF_ANOTHER = manifest_of(IMAGE), manifest_of(Digest("2" * 64))


def member(
    name: str, data: bytes = b"", form: Literal[0, 1, 2] = tarfile.USTAR_FORMAT, **more: object
) -> bytes:
    """A member of an archive, as Python writes it."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for key, value in more.items():
        setattr(entry, key, value)
    return entry.tobuf(form) + data + bytes(-len(data) % 512)


END = bytes(1024)


@cache
def _a_header() -> bytes:
    """The header of some file, as an export writes it."""
    with tempfile.TemporaryDirectory() as directory:
        return exported(filled(Path(directory), [b""]))[:512]


def with_checksum(header: bytearray) -> bytes:
    """A header with the checksum that it should have (POSIX.1-2008 pax, "ustar")."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def header_of(name: str, size: int = 0) -> bytes:
    """The header of a file, as an export writes it."""
    header = bytearray(_a_header())
    header[:100] = name.encode().ljust(100, b"\0")
    header[124:135] = b"%011o" % size
    return with_checksum(header)


def shipped(data: bytes, kind: str = "sha256") -> bytes:
    """A file in an archive, as an export writes it."""
    return header_of(name_of(data, kind), len(data)) + data + bytes(-len(data) % 512)
