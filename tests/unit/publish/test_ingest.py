# SPDX-License-Identifier: Apache-2.0
"""The tar that CernVM-FS's server gets: images that try to hinder its making."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from pathlib import Path

import pytest

from podman_cvmfs.publish import targets
from podman_cvmfs.publish.ingest import run_server, write_tar
from podman_cvmfs.publish.targets import CernvmfsTarget
from podman_cvmfs.publish.unpack.safe_tree import remove

#: Python's stack has 1000, and a process may open 1024 files.
DEPTH = 1500


def make_deep(directory: Path) -> None:
    """Directories with names of one letter, and a file in the last one."""
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def test_a_deep_image_goes_into_the_tar_and_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / "staging"
    (staging / "a").mkdir(parents=True)
    (staging / "b").touch()
    (staging / ".podman-cvmfs-lock").touch()
    make_deep(staging / "a")
    out = io.BytesIO()

    def ingest(name: str, directory: str) -> None:
        assert name == "images.example.org"
        write_tar(directory, out)

    monkeypatch.setattr(targets, "ingest", ingest)
    try:
        CernvmfsTarget(str(staging), name="images.example.org").finish()
        assert not os.listdir(staging)
    finally:
        # pytest's own clearing fails.
        fd = os.open(tmp_path, os.O_RDONLY)
        remove(b"staging", fd)
        os.close(fd)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        names = tar.getnames()
    assert names[:3] == ["a", "a/d", "a/d/d"]
    assert names[-2:] == ["a" + "/d" * DEPTH + "/file", "b"]


def test_an_interrupt_does_not_end_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "cvmfs_server"
    program.write_text(f"#!/bin/sh\nsleep 1\necho so\necho $* >{tmp_path}/done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_server("publish", "images.example.org")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "done").read_text() == "publish images.example.org\n"
