# SPDX-License-Identifier: Apache-2.0
"""Other users, and other processes, that hold the locks of a store: real ones."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from podman_cvmfs.store import layout, locks
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.store import Store
from tests.support.intruder import Intruder
from tests.support.processes import started
from tests.support.trees import snapshot

_STRANGER = Intruder(4343)
_HOLD = (
    "import fcntl, sys\nfile = open(sys.argv[1], 'rb')\nfcntl.lockf(file, fcntl.LOCK_SH)\n"
    "print('in', flush=True)\nsys.stdin.read()\n"
)

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store that every user can read."""
    with tempfile.TemporaryDirectory(prefix="locks-") as path:
        os.chmod(path, 0o755)
        made = Store(f"{path}/store")
        _write(made)
        os.chmod(made.path, layout.OPEN)
        yield made


def _write(store: Store) -> None:
    with store.opened() as content:
        store.replace(content or StoreContent(), (), (), anew=True)


@contextlib.contextmanager
def _held(path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have the stranger hold a read lock on a file."""
    argv = _STRANGER.argv("/usr/bin/python3", "-c", _HOLD, path)
    with started(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"in\n"
        yield holder


def test_nobody_else_can_hold_the_lock_against_syncs(store: Store) -> None:
    lock = Path(store.path) / layout.LOCKS / layout.SYNC_LOCK
    assert not _STRANGER.sh(f"exec 9< {lock}")
    # As earlier versions left it.
    lock.chmod(0o644)
    assert _STRANGER.sh(f"exec 9< {lock}"), "else nothing is shown by this"
    _write(store)
    assert not _STRANGER.sh(f"exec 9< {lock}")


@pytest.mark.parametrize("name", layout.LOCK_FILES)
def test_whoever_holds_podmans_lock_is_told_of_and_named(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "SILENT", 0.3)
    monkeypatch.setattr(locks, "PATIENCE", 1.5)
    with _held(f"{store.path}/{layout.LOCKS}/{name}") as holder:
        before = snapshot(Path(store.path))
        named = rf"process {holder.pid} \(python3, of user {_STRANGER.uid}\)"
        with pytest.raises(StoreError, match=f"{named} has kept podman's lock") as caught:
            _write(store)
        assert caught.value.hint and "end it" in caught.value.hint
        told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
        assert len(told) == 1 and f"process {holder.pid} (python3" in told[0]
        assert snapshot(Path(store.path)) == before
    _write(store)


def test_a_lock_that_is_given_back_in_time_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "SILENT", 0.2)
    with _held(f"{store.path}/{layout.LOCKS}/images.lock") as holder:
        threading.Timer(1.5, holder.kill).start()
        _write(store)
    assert any("waiting for podman's lock" in each.getMessage() for each in caplog.records)


def test_podman_gets_its_turn_while_we_wait(store: Store) -> None:
    """While somebody keeps us from the second lock we don't keep podman from the first."""
    with _held(f"{store.path}/{layout.LOCKS}/images.lock"):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                _write(store)
            os._exit(0)
        try:
            first = f"{store.path}/{layout.LOCKS}/layers.lock"
            for _ in range(5):
                subprocess.run(
                    ["/usr/bin/python3", "-c", _HOLD, first],
                    stdin=subprocess.DEVNULL,
                    check=True,
                    timeout=30,
                )
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "it waits still"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
