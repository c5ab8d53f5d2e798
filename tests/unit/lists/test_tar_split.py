# SPDX-License-Identifier: Apache-2.0
"""tar-splits, and their checksum. The matrix holds them against podman's unpacked layers."""

from __future__ import annotations

import gzip
import io
import json
import os

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.lists import tar_split
from podman_cvmfs.lists.crc64 import Crc64
from podman_cvmfs.lists.tar_split import TarSplitWriter, renamed
from tests.support import nasty_layers
from tests.support.unpacked_layer import listed


def _slow(data: bytes) -> bytes:
    """The definition: a bit at a time."""
    register = (1 << 64) - 1
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xD800000000000000 if register & 1 else 0)
    return (register ^ ((1 << 64) - 1)).to_bytes(8, "big")


def test_the_checksum_is_go_s() -> None:
    # The check value of CRC-64/GO-ISO in Greg Cook's catalogue of CRCs.
    found = Crc64()
    found.update(b"123456789")
    assert found.digest().hex() == "b90956c775a41001"


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 1000, 65535, 65536, 65537])
def test_the_checksum_of_pieces_is_that_of_the_whole(size: int) -> None:
    data = os.urandom(size)
    found = Crc64()
    found.update(data[: size // 3])
    found.update(memoryview(data)[size // 3 :])
    assert found.digest() == _slow(data)


def test_files_are_found_under_their_real_paths() -> None:
    _, split = listed(nasty_layers.blob("absolute-links"))
    rows = [json.loads(line) for line in gzip.decompress(split).splitlines()]
    names = [row["name"] for row in rows if row["type"] == 1]
    assert names == ["usr/lib/one", "usr/lib/two", "usr/lib/made/three"]


def test_files_can_be_sought_elsewhere() -> None:
    _, split = listed(nasty_layers.blob("names"))
    before = [json.loads(line) for line in gzip.decompress(split).splitlines()]
    after = [json.loads(line) for line in renamed(io.BytesIO(split), "../files/")]
    assert len(before) == len(after)
    for old, new in zip(before, after):
        if "name" in old:
            assert new.pop("name") == "../files/" + old.pop("name")
        elif "name_raw" in old:
            assert new.pop("name_raw") != old.pop("name_raw")
        assert old == new


@pytest.mark.parametrize(
    "data", [b"", b"no gzip", gzip.compress(b"{"), gzip.compress(b"[]\n")[:-4]]
)
def test_damaged_ones_are_refused(data: bytes) -> None:
    if data:
        with pytest.raises(InputError, match="a tar-split is damaged"):
            [*renamed(io.BytesIO(data), "")]
    else:
        assert [*renamed(io.BytesIO(data), "")] == []


def test_a_tar_of_headers_alone_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_split, "_MOST", 1000)
    writer = TarSplitWriter(io.BytesIO())
    writer.segment(bytes(1000))
    with pytest.raises(InputError, match="more than 1000 bytes of headers"):
        writer.segment(b"x")


@pytest.mark.parametrize(
    "row", [b"[]", b'{"type":1}', b'{"type":2,"payload":"AAA"}', b'{"type":3}']
)
def test_lines_that_tell_no_size_are_refused(row: bytes) -> None:
    with pytest.raises(InputError, match="a tar-split is damaged"):
        tar_split.tar_size(io.BytesIO(gzip.compress(row + b"\n")))
