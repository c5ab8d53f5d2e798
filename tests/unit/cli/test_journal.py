# SPDX-License-Identifier: Apache-2.0
"""Priorities before what is printed for the journal, and for nobody else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from podman_cvmfs.cli.journal import tagged


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, 3), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)]
    + [(logging.DEBUG, 7), (1, 7)],
)
def test_each_line_has_its_priority(level: int, priority: int) -> None:
    assert tagged("one\ntwo", level) == f"<{priority}>one\n<{priority}>two"


@pytest.mark.parametrize("named", ["this", "another", None])
def test_only_for_the_journal(named: str | None, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    status = os.fstat(writing)
    env = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    if named:
        inode = status.st_ino + (0 if named == "this" else 1)
        env["JOURNAL_STREAM"] = f"{status.st_dev}:{inode}"
    # An error with a hint.
    fails = ["sync", "--repository", str(tmp_path / "none"), "--store", str(tmp_path / "store")]
    argv = [sys.executable, "-m", "podman_cvmfs", *fails]
    with os.fdopen(reading) as stream:
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stderr=writing)
        os.close(writing)
        lines = stream.read().splitlines()
    assert done.returncode == 4
    assert len(lines) > 1
    assert all(line.startswith("<3>") is (named == "this") for line in lines)
