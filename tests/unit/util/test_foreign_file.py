# SPDX-License-Identifier: Apache-2.0
"""Files of others are read whole, or the error is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from podman_cvmfs.util.foreign_file import read_bounded


def test_short_reads_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(10_000))
    real = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: real(descriptor, min(size, 4096)))
    assert read_bounded(str(path), 10_000) == path.read_bytes()
    with pytest.raises(OSError) as caught:
        read_bounded(str(path), 9_999)
    assert caught.value.errno == errno.EFBIG


def test_an_error_in_the_middle_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives what it has first, and the error with the next read."""
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    real = os.read
    done: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        if done:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        done.append(size)
        return real(descriptor, 4096)

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(OSError) as caught:
        read_bounded(str(path), 20_000)
    assert caught.value.errno == errno.EIO


def test_a_file_that_has_grown_is_read_as_far_as_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"ab")
    assert read_bounded(str(path), 2) == b"ab"
    with pytest.raises(OSError):
        read_bounded(str(path), 1)
    path.write_bytes(b"")
    assert read_bounded(str(path), 0) == b""
