# SPDX-License-Identifier: Apache-2.0
"""Syncs and readers at one time: each waits for the other."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from podman_cvmfs.store.store import Store
from tests.support.processes import started
from tests.support.small_store import put


def test_two_syncs_at_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    code = (
        "import sys\nfrom podman_cvmfs.store.store import Store\n"
        "with Store(sys.argv[1]).opened():\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    with started(
        [sys.executable, "-c", code, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        with pytest.raises(StoreError, match="another sync is at work"):
            put(store, "ab")
        other.communicate(b"", timeout=60)
    assert put(store, "ab")


def test_a_reader_of_podmans_holds_the_flip_up(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'rb')\nfcntl.lockf(file, fcntl.LOCK_SH)\n"
        "print('in', flush=True)\nsys.stdin.read()\n"
    )
    lock = tmp_path / "store/overlay-layers/layers.lock"
    with started(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"in\n"
        with open(lock, "r+b") as file, pytest.raises(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        reader.communicate(b"", timeout=60)
    assert put(store, "ab")


def test_a_podman_with_one_lock_may_wait_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread of a podman service reads images while another waits for layers, which we hold."""
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    code = (
        "import fcntl, sys, threading, time\nlayers, images = (open(p) for p in sys.argv[1:])\n"
        "fcntl.lockf(images, fcntl.LOCK_SH)\nprint('in', flush=True)\nsys.stdin.readline()\n"
        "other = threading.Thread(target=fcntl.lockf, args=(layers, fcntl.LOCK_SH))\n"
        "other.start()\ntime.sleep(1)\nfcntl.lockf(images, fcntl.LOCK_UN)\nother.join()\n"
    )
    paths = [tmp_path / f"store/locks/{name}.lock" for name in ("layers", "images")]
    seen = []
    real = fcntl.lockf
    with started(
        [sys.executable, "-c", code, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as podman:
        pipe = podman.stdin
        assert pipe is not None and podman.stdout is not None
        assert podman.stdout.readline() == b"in\n"

        def lockf(descriptor: int, kind: int, *rest: int) -> None:
            is_layers = os.readlink(f"/proc/self/fd/{descriptor}") == str(paths[0])
            try:
                real(descriptor, kind, *rest)
            except OSError as err:
                seen.append(err.errno)
                raise
            if is_layers and kind & fcntl.LOCK_EX and not pipe.closed:
                pipe.close()
                time.sleep(0.3)

        monkeypatch.setattr(fcntl, "lockf", lockf)
        assert put(store, "ab")
        assert podman.wait(20) == 0
    assert set(seen) == {errno.EAGAIN}
