# SPDX-License-Identifier: Apache-2.0
"""Work in a child: its answer, its errors, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from podman_cvmfs.errors import PodmanCvmfsError, RepositoryError
from podman_cvmfs.util.apart import apart


def test_the_answer_comes_back() -> None:
    assert apart(lambda: {"pid": os.getpid()})["pid"] != os.getpid()


def test_an_error_comes_back_whole() -> None:
    def fail() -> None:
        raise RepositoryError("it is down", "mount it")

    with pytest.raises(RepositoryError) as failed:
        apart(fail)
    assert failed.value.line == "it is down (mount it)"


def test_a_child_that_dies_is_an_error() -> None:
    with pytest.raises(PodmanCvmfsError, match="died"):
        apart(lambda: os.kill(os.getpid(), signal.SIGKILL))


_WORK = """
import sys, threading, time
from podman_cvmfs.util.apart import apart
def work():
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("cleaned up", flush=True)
        raise
try:
    apart(work)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "cleaned up\ninterrupted\n"), (signal.SIGKILL, ""), (signal.SIGTERM, "")],
)
def test_it_ends_with_its_parent(number: signal.Signals, said: str) -> None:
    """An interrupt lets the work clean up; nothing outlives the parent in any case."""
    with subprocess.Popen(
        [sys.executable, "-c", _WORK], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        began = time.monotonic()
        process.send_signal(number)
        assert process.stdout.read() == said
        assert time.monotonic() - began < 5
