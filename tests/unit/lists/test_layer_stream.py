# SPDX-License-Identifier: Apache-2.0
"""Layer blobs as streams: every compression, and every way in which a blob can be wrong."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists.layer_stream import LayerStream, compression, decompress
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.publish.source.budget import Budget

DATA = os.urandom(3000) + b"a" * 3_000_000 + os.urandom(70_000)


def chunked(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def stream(blob: bytes, plain: bytes, size: int | None = None) -> LayerStream:
    descriptor = Descriptor("", Digest.of(blob), len(blob) if size is None else size)
    return LayerStream(chunked(blob), descriptor, Digest.of(plain))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def skippable(data: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(data)) + data


ENCODINGS = {
    "plain": DATA,
    "gzip": gzip.compress(DATA),
    "gzip of two members": gzip.compress(DATA[:5000]) + gzip.compress(DATA[5000:]),
    "gzip with an empty member": gzip.compress(b"") + gzip.compress(DATA),
    "gzip padded with zeros": gzip.compress(DATA) + bytes(1000),
    "zstd": zstd(DATA),
    "zstd of two frames": zstd(DATA[:5000]) + zstd(DATA[5000:]),
    "zstd after a skippable frame": skippable(b"s" * 500) + zstd(DATA),
    "zstd before a skippable frame": zstd(DATA) + skippable(b"s" * 5000),
}


@pytest.mark.parametrize("blob", ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("size", [3, 977, 1 << 20])
def test_decompresses(blob: bytes, size: int) -> None:
    pieces = list(decompress(chunked(blob, size)))
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize("blob", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_reads_and_checks(blob: bytes) -> None:
    layer = stream(blob, DATA)
    assert layer.read(512) == DATA[:512]
    assert layer.tell() == 512
    assert layer.seek(4000) == 4000
    assert b"".join(layer.pieces(3000)) == DATA[4000:7000]
    layer.finish()
    assert layer.size == len(DATA)


def test_an_empty_blob_is_an_empty_tar() -> None:
    layer = stream(b"", b"")
    assert layer.read(512) == b""
    layer.finish()


@pytest.mark.parametrize("kind", ["gzip", "gzip of two members"])
def test_truncated_gzip(kind: str) -> None:
    layer = stream(ENCODINGS[kind][:-9], DATA)
    with pytest.raises(InputError, match="ends too early"):
        layer.finish()


def test_truncated_zstd() -> None:
    layer = stream(ENCODINGS["zstd"][:-9], DATA)
    with pytest.raises(InputError, match=r"it isn't sha256|damaged"):
        layer.finish()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damaged(kind: str) -> None:
    blob = bytearray(ENCODINGS[kind])
    blob[len(blob) // 2] ^= 0xFF
    with pytest.raises(InputError, match=r"damaged|it isn't"):
        stream(bytes(blob), DATA).finish()


def test_garbage_after_gzip() -> None:
    with pytest.raises(InputError, match="damaged"):
        stream(gzip.compress(DATA) + b"garbage", DATA).finish()


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_unsupported_compression_is_named(pack: object) -> None:
    assert callable(pack)
    with pytest.raises(InputError, match="not supported"):
        stream(pack(DATA), DATA).finish()


def test_wrong_blob_digest() -> None:
    blob = gzip.compress(DATA)
    wrong = Descriptor("", Digest.of(b"other"), len(blob))
    with pytest.raises(InputError, match="it has another digest"):
        LayerStream(chunked(blob), wrong, Digest.of(DATA)).finish()


def test_wrong_diff_id() -> None:
    with pytest.raises(InputError, match="configuration says"):
        stream(gzip.compress(DATA), b"other").finish()


def test_too_large_is_noticed_at_once() -> None:
    """Not after gigabytes that nobody announced."""
    endless = LayerStream(
        iter(lambda: b"x" * 1000, None), Descriptor("", Digest.of(b""), 5000), Digest.of(b"")
    )
    with pytest.raises(InputError, match="larger than the manifest says"):
        endless.finish()


def test_a_bomb_is_noticed_in_time() -> None:
    """zstd could turn a megabyte into terabytes."""
    data = bytes(20 << 20)
    bomb = stream(zstd(data), data)
    bomb.budget = Budget(max_size=2 << 20)
    with pytest.raises(InputError, match="more than 2048 KiB"):
        bomb.finish()
    assert bomb.size <= 3 << 20
    fine = stream(zstd(data), data)
    fine.budget = Budget(max_size=20 << 20)
    fine.finish()


def test_too_small() -> None:
    blob = gzip.compress(DATA)
    with pytest.raises(InputError, match=r"not .* as the manifest says"):
        stream(blob, DATA, len(blob) + 1).finish()


def test_seek_goes_forwards_only() -> None:
    layer = stream(DATA, DATA)
    layer.read(600)
    with pytest.raises(InputError, match="contradict"):
        layer.seek(5)
    with pytest.raises(InputError, match="too early"):
        layer.seek(len(DATA) + 1)


def test_refuses_an_absurd_header() -> None:
    with pytest.raises(InputError, match="extended header"):
        stream(DATA, DATA).read(1 << 30)


def test_compression_by_magic() -> None:
    assert compression(b"") == "none"
    assert compression(b"\x1f") == "none"
    assert compression(b"\x1f\x8b") == "gzip"
    assert compression(zstd(b"")) == "zstd"


@given(st.lists(st.binary(max_size=3000), max_size=5), st.integers(1, 4000), st.booleans())
def test_any_members_and_chunks(parts: list[bytes], size: int, use_zstd: bool) -> None:
    pack = zstd if use_zstd else gzip.compress
    blob = b"".join(pack(part) for part in parts)
    plain = b"".join(parts)
    layer = stream(blob, plain)
    source = io.BytesIO(plain)
    while True:
        piece = layer.read(size)
        assert piece == source.read(size)
        if not piece:
            break
    layer.finish()
