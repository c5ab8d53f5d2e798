# SPDX-License-Identifier: Apache-2.0
"""Progress at a terminal, silence elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.cli import Target, podman_cvmfs
from tests.support.many import make_repository

_BYTES = """
import time
from podman_cvmfs.util.progress import bytes_done
with bytes_done(100 << 20, "Unpacking") as done:
    for _ in range(100):
        time.sleep(0.01)
        done(1 << 20)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With enough images for a bar."""
    return make_repository(tmp_path_factory.mktemp("many") / "repository", 300)


@pytest.fixture
def target(repository: Path, tmp_path: Path) -> Target:
    """Nothing synced yet."""
    return Target(repository, tmp_path / "store", tmp_path / "cache")


def at_terminal(argv: Sequence[str]) -> tuple[int, str]:
    """Run Python with a terminal as standard error; exit status and what was shown."""
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *argv],
        stdin=subprocess.DEVNULL,
        stderr=inside,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LC_ALL": "C.UTF-8"},
    )
    os.close(inside)
    shown = ""
    # The last reader of a terminal that nobody holds any more gets EIO.
    with open(outside, "rb", buffering=0) as terminal:
        while True:
            try:
                data = terminal.read(65536)
            except OSError:
                break
            shown += data.decode(errors="replace")
    return process.wait(), re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", shown)


def test_counts_and_rates_at_a_terminal(target: Target) -> None:
    status, shown = at_terminal(["-m", "podman_cvmfs", *target.argv("--offline")])
    assert status == 0
    assert re.search(r"Reading images .* \d+/300 \d+/s", shown)


def test_bytes_and_rates_at_a_terminal() -> None:
    status, shown = at_terminal(["-c", _BYTES])
    assert status == 0
    assert re.search(r"Unpacking .* \d+\.\d/104\.9 MB \d+\.\d MB/s", shown)


def test_silence_elsewhere(target: Target) -> None:
    done = podman_cvmfs(*target.argv("--offline"))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("\n") == 1
