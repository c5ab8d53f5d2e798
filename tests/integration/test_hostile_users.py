# SPDX-License-Identifier: Apache-2.0
"""What a user of the machine has put where root looks for that user's podman: it costs root a
warning, no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.one_user import HOME, UID, Machine


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


#: What is put in the place of a file, and what is said of it.
_PLANTED: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (os.mkfifo, "not a regular file"),
    "endless": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "large": (_large, "File too large"),
}
#: Seconds, and bytes of address space: what hangs or reads without end comes to neither.
_SECONDS, _BYTES = 60, 4 << 30


def _run(machine: Machine, *args: str) -> subprocess.CompletedProcess[str]:
    limits = ["prlimit", f"--as={_BYTES}", "timeout", str(_SECONDS)]
    done = machine.root(*limits, sys.executable, "-m", "podman_cvmfs", *args, check=False)
    assert done.returncode not in (124, 137), "it hangs"
    assert "Traceback" not in done.stderr and "MemoryError" not in done.stderr, done.stderr
    return done


@pytest.fixture
def victim(shared: Machine) -> Iterator[Machine]:
    """A machine with a store that all users may read."""
    yield shared
    # The user's own podman, too, would wait for ever.
    for name in (".config/containers", ".local"):
        shutil.rmtree(shared.namespace.outside(f"{HOME}/{name}"), ignore_errors=True)


@pytest.mark.parametrize("kind", _PLANTED)
def test_a_user_s_storage_conf(victim: Machine, kind: str) -> None:
    plant, said = _PLANTED[kind]
    name = f"{HOME}/.config/containers/storage.conf"
    conf = victim.namespace.outside(name)
    plant(conf)
    os.chown(conf, UID, UID, follow_symlinks=False)
    done = _run(victim, "setup", "--system", "--users")
    assert done.returncode == 0, done.stderr
    assert f"not reached: u: can't read {name}: {said}" in done.stderr
    assert len(victim.images()) == 3
    done = _run(victim, "doctor")
    assert f"can't read {name}: {said}" in done.stdout + done.stderr
    done = _run(victim, "prune", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"can't read which layers {name} uses: " in done.stderr and said in done.stderr


@pytest.mark.parametrize("kind", _PLANTED)
def test_a_user_s_images(victim: Machine, kind: str) -> None:
    plant, said = _PLANTED[kind]
    graphroot = victim.namespace.outside(f"{HOME}/.local/share/containers/storage")
    for directory in ("overlay-layers", "overlay-images", "overlay-containers"):
        (graphroot / directory).mkdir(parents=True)
        for name in ("layers", "images", "containers"):
            plant(graphroot / directory / f"{name}.json")
    for command in (("prune", "--dry-run"), ("sync", "--offline"), ("doctor",)):
        done = _run(victim, *command)
        assert command[0] != "prune" or (done.returncode == 0 and said in done.stderr)
