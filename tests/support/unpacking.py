# SPDX-License-Identifier: Apache-2.0
"""Layers, and single entries that no tool would write, to unpack."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.publish.unpack.layer import unpack
from tests.support.layers import MTIME, padded

ROOT = os.geteuid() == 0
END = bytes(1024)
Unpack = Callable[..., frozenset[bytes]]


def unpack_into(root: Path, data: bytes) -> frozenset[bytes]:
    """Unpack a tar."""
    stream = LayerStream(iter([data]), Descriptor("", Digest.of(data), len(data)), Digest.of(data))
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return unpack(stream, fd)
    finally:
        os.close(fd)


def entry(**fields: object) -> bytes:
    """One entry with header fields that ``layers.tar`` doesn't set."""
    data = bytes(fields.pop("data", b""))  # type: ignore[call-overload]
    info = tarfile.TarInfo()
    info.mtime = MTIME
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + padded(data)
