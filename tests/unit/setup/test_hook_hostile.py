# SPDX-License-Identifier: Apache-2.0
"""The hook's script: what it makes of a container whose directory is somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from podman_cvmfs.setup.hook import SCRIPT

NAME = "A" * 26


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A container's directory, beside a store with one layer."""
    (tmp_path / "store/overlay/l").mkdir(parents=True)
    (tmp_path / f"store/overlay/l/{NAME}").symlink_to("../layer/diff")
    (tmp_path / "marks").mkdir()
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/called\n')
    program.chmod(0o755)
    (tmp_path / "container").mkdir()
    return tmp_path / "container"


def called(directory: Path) -> str:
    """Run the hook for the container, and return how it calls the program."""
    above = directory.parent
    config = json.dumps(
        {"process": {"env": ['A="root":{"path":"/none']}, "root": {"path": f"{directory}/merged"}},
        separators=(",", ":"),
    )
    words = (str(above / name) for name in ("store", "marks", "program"))
    argv = ["sh", "-c", SCRIPT, "podman-cvmfs", *words]
    done = subprocess.run(argv, input=config, stdout=subprocess.PIPE, encoding="utf-8", timeout=30)
    assert (done.returncode, done.stdout) == (0, config)
    deadline = time.monotonic() + 1
    while not (above / "called").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return (above / "called").read_text() if (above / "called").exists() else ""


def test_a_layer_of_the_store_is_named(directory: Path) -> None:
    (directory / "lower").write_text(f"l/none:l/{NAME}")
    marks = directory.parent / "marks"
    store = directory.parent / "store"
    assert called(directory) == f"--store {store} --layer {NAME} --mark {marks}/{NAME}\n"


def test_a_container_s_directory_leads_nowhere(directory: Path) -> None:
    """podman's --rootfs may be anybody's, with a file that looks like podman's own."""
    (directory / "link").symlink_to("/etc/passwd")
    up = "../" * 40
    (directory / "lower").write_text(f"l/{up}{directory}/link:{up}{directory}/link")
    assert called(directory) == ""


def test_a_container_s_pipe_is_not_waited_for(directory: Path) -> None:
    os.mkfifo(directory / "lower")
    assert called(directory) == ""
