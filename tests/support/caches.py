# SPDX-License-Identifier: Apache-2.0
"""Caches, and archives of them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from podman_cvmfs.cache import archive as cache_archive
from podman_cvmfs.cache.archive import export_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.oci.documents import OCI_CONFIG, OCI_MANIFEST, Digest

BLOBS = [b"", b"one", b"x" * 512, b"y" * 5000, b'{"architecture": "amd64"}']


def filled(directory: Path, blobs: Iterable[bytes] = BLOBS) -> BlobCache:
    """A cache with these blobs."""
    cache = BlobCache(str(directory))
    for blob in blobs:
        cache.put(blob)
    return cache


def exported(cache: BlobCache) -> bytes:
    """The archive of a cache."""
    output = io.BytesIO()
    export_cache(cache, output)
    return output.getvalue()


def files(directory: Path) -> dict[str, bytes]:
    """The content of every file below a directory, by its path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def name_of(data: bytes) -> str:
    """Where a cache and its archive have a blob."""
    digest = Digest.of(data).hex
    return f"sha256/{digest[:2]}/{digest}"


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
    """A member of an archive, as an export would write it unless told otherwise."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for key, value in more.items():
        setattr(entry, key, value)
    return entry.tobuf(form) + data + bytes(-len(data) % 512)


END = bytes(1024)


def note_member(text: bytes) -> bytes:
    """A note of which manifests an image has, as a member of an archive."""
    header = cache_archive._header(Digest.of(text), len(text), "manifests")
    return header + text + bytes(-len(text) % 512)
