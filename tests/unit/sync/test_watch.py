# SPDX-License-Identifier: Apache-2.0
"""``sync --watch`` wakes, reports and ends."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync.watch import follow
from tests.support.cli import podman_cvmfs
from tests.support.many import REGISTRY
from tests.support.settled import target_of


def test_watch_sees_changes_and_outages(tmp_path: Path, repository: Path) -> None:
    target = target_of(tmp_path, repository)
    argv = [sys.executable, "-m", "podman_cvmfs", *target.argv("--offline", "--watch")]

    def names() -> int:
        content = read_store(str(target.store)) or StoreContent()
        return sum(len(image.published) for image in content.images.values())

    def wait_for(number: int) -> None:
        end = time.monotonic() + 20
        while names() != number and time.monotonic() < end:
            time.sleep(0.05)
        assert names() == number

    with subprocess.Popen([*argv, "--interval", "0.1"], stderr=subprocess.PIPE, text=True) as watch:
        try:
            wait_for(3)
            (repository / REGISTRY / "project/app1:1").unlink()
            described = repository / f".metadata/{REGISTRY}/project/app1:1"
            described.rename(tmp_path / "described")
            wait_for(2)
            repository.rename(tmp_path / "away")
            time.sleep(0.5)
            assert names() == 2 and watch.poll() is None
            (tmp_path / "away").rename(repository)
            (tmp_path / "described").rename(described)
            wait_for(3)
            watch.send_signal(signal.SIGTERM)
            _, errors = watch.communicate(timeout=20)
        finally:
            # Whatever failed above: leaving the block waits for the process.
            watch.kill()
    assert watch.returncode == 0
    assert errors.count("no such repository") == 1


def test_watch_says_each_failure_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        if calls < 3:
            raise RepositoryError("it is down", "mount it")

    assert threading.current_thread() is threading.main_thread()
    with caplog.at_level(logging.INFO, "podman_cvmfs.sync.watch"):
        follow(work, 0.001, what="/cvmfs/x")
    said = [record.message for record in caplog.records]
    assert said == ["it is down (mount it)", "/cvmfs/x works again"]


def test_a_change_after_failures_is_seen_at_the_usual_interval() -> None:
    """The pauses have grown to 1.6 s by then."""
    times: list[float] = []
    changed = 0.0

    def state() -> bool:
        return bool(changed) and time.monotonic() > changed

    def work() -> None:
        nonlocal changed
        times.append(time.monotonic())
        if len(times) == 5:
            changed = times[-1] + 0.3
        if len(times) < 6:
            raise RepositoryError("it is down")
        os.kill(os.getpid(), signal.SIGTERM)

    follow(work, 0.05, state=state)
    assert times[4] - times[3] > 0.7
    assert 0.25 < times[5] - times[4] < 0.7


@pytest.mark.parametrize("named", [False, True])
def test_watch_says_once_what_stays_as_it_is(tmp_path: Path, repository: Path, named: bool) -> None:
    """Be it a failure of one image or, with names, the summary: later syncs print nothing."""
    target = target_of(tmp_path, repository)
    names = [f"{REGISTRY}/project/app{number}:{number}" for number in (1, 2)]
    (repository / f".metadata/{names[0]}/manifest.json").write_text("{")
    argv = target.argv("--offline", "--watch", "--interval", "0.1", *(names if named else ()))
    log = tmp_path / "log"
    with log.open("w") as errors:
        watch = subprocess.Popen([sys.executable, "-m", "podman_cvmfs", *argv], stderr=errors)
    try:
        end = time.monotonic() + 20
        while "could not be done" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.05)
        # After a failure the pauses grow: 0.2 s, 0.4 s.
        time.sleep(1)
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(20) == 0
    finally:
        watch.kill()
    text = log.read_text()
    assert text.count("is not valid JSON") == text.count(" added, ") == 1, text


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--watch", "--format", "json"], "--format json"),
        (["--interval", "9"], "--interval"),
        (["--notification-file", "/dev/null"], "--notification-file"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, repository: Path, args: list[str], word: str
) -> None:
    done = podman_cvmfs(*target_of(tmp_path, repository).argv("--offline", *args))
    assert done.returncode == 2
    assert word in done.stderr


def test_a_notification_wakes_the_watch(tmp_path: Path) -> None:
    notified = tmp_path / "notifications"
    times: list[float] = []

    def work() -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            threading.Timer(0.3, lambda: notified.write_text('{"action": "done"}\n')).start()
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    follow(work, 60, str(notified))
    assert times[1] - times[0] < 10


def test_a_notification_file_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[None] = []

    def work() -> None:
        calls.append(None)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    follow(work, 0.001, str(tmp_path / "none"))
    said = [record.message for record in caplog.records]
    assert said == [f"waiting for the notification file {tmp_path}/none, which doesn't exist yet"]
    with pytest.raises(InputError, match="is a directory"):
        follow(work, 0.001, str(tmp_path))
    assert len(calls) == 3


def test_a_signal_may_come_at_any_moment() -> None:
    """Also when the wait is amid something: here it comes at each line that a wait runs."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"a signal at line {at} of the wait hangs it")

    before, handler = sys.gettrace(), signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, 10)
    try:
        for at in itertools.count():
            if _passes(at):
                break
    finally:
        sys.settrace(before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert at > 0


def _passes(at: int) -> bool:
    """Have SIGTERM come at so manieth a line; whether the wait has ended before that."""
    lines = calls = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if event == "line":
            if lines == at:
                signal.raise_signal(signal.SIGTERM)
            lines += 1
        return trace

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            sys.settrace(trace)
        else:
            sys.settrace(None)
            signal.raise_signal(signal.SIGTERM)

    follow(work, 0.001)
    sys.settrace(None)
    return calls > 1
