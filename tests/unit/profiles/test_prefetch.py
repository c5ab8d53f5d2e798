# SPDX-License-Identifier: Apache-2.0
"""What is read early, and what ends it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from podman_cvmfs.profiles import prefetch as prefetching
from podman_cvmfs.profiles.prefetch import Limits, Prefetched, prefetch
from podman_cvmfs.profiles.profile import MAX_FILES, Use
from podman_cvmfs.profiles.shown import ShownImage
from podman_cvmfs.repository.readers import READERS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(bytes(1000))
    return tmp_path


def run(root: Path, *uses: Use, limits: Limits | None = None) -> Prefetched:
    return prefetch(ShownImage((str(root),)), uses, limits or Limits())


def test_files_are_read_whole(root: Path) -> None:
    done = run(root, *(Use(f"{number}") for number in range(20)))
    assert done == Prefetched(20, 20_000, missing=0, failed=0, left=0, fetched=None)


def test_only_the_used_ranges_are_read(root: Path) -> None:
    done = run(root, Use("1", ((10, 20), (990, 500), (5000, 10))))
    assert (done.files, done.size) == (1, 30)


def test_of_a_large_file_only_the_beginning_is_read(root: Path) -> None:
    with (root / "large").open("wb") as file:
        file.truncate(3 * prefetching.WHOLE)
    assert run(root, Use("large")).size == prefetching.WHOLE


def test_what_is_no_file_does_no_harm(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "out").symlink_to("/etc/passwd")
    (root / "closed").mkdir()
    done = run(root, Use("pipe"), Use("out"), Use("closed"), Use("none"), Use("1"))
    assert done == Prefetched(1, 1000, missing=4, failed=0, left=0, fetched=None)


def test_many_names_do_no_harm(root: Path) -> None:
    start = time.monotonic()
    done = run(root, *(Use(f"a{number}/" + "b/" * 100 + "c") for number in range(MAX_FILES)))
    assert done.missing == MAX_FILES
    assert time.monotonic() - start < 20


def test_the_size_is_bounded(root: Path) -> None:
    done = run(root, *(Use(f"{number}") for number in range(20)), limits=Limits(size=5000))
    assert 5000 <= done.size <= 5000 + READERS * 1000
    assert done.files + done.left == 20 and done.left >= 20 - 5 - READERS


def test_so_many_at_once_and_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, lock = [0], [0], threading.Lock()
    read = os.pread

    def slow(descriptor: int, count: int, offset: int) -> bytes:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        with lock:
            inside[0] -= 1
        return read(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", slow)
    assert run(root, *(Use(f"{number}") for number in range(20))).files == 20
    assert most[0] == READERS


def test_reads_that_hang_are_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    read = os.pread

    def hanging(descriptor: int, count: int, offset: int) -> bytes:
        release.wait(60)
        return read(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", hanging)
    start = time.monotonic()
    done = run(root, *(Use(f"{number}") for number in range(20)), limits=Limits(seconds=0.2))
    release.set()
    assert time.monotonic() - start < 5
    assert (done.files, done.left) == (0, 20)


def test_a_file_that_cannot_be_read_is_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, count: int, offset: int) -> bytes:
        raise OSError(5, "no server")

    monkeypatch.setattr(os, "pread", broken)
    assert run(root, Use("1"), Use("none")) == Prefetched(0, 0, 1, 1, 0, None)
