# SPDX-License-Identifier: Apache-2.0
"""``setup --prefetch`` with a real podman, root's and an ordinary user's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.one_user import HOME, Machine

#: Where the hook's program leaves a mark.
MARKS = Path("/run/podman-cvmfs")


@pytest.fixture
def marks(filled: Machine) -> Path:
    """Root's directory of marks, empty."""
    filled.namespace.mount_tmpfs(MARKS, size="1m", inodes=100)
    return filled.namespace.outside(MARKS)


def _start(machine: Machine) -> str:
    """Start a container of the store as root; return what its podman says."""
    done = machine.root("podman", "run", "--rm", "--pull=never", machine.images()[0], "true")
    return done.stderr


def _is_marked(marks: Path) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if any(marks.iterdir()):
            return True
        time.sleep(0.05)
    return False


def test_root_s_containers_are_read_early_until_that_is_undone(
    filled: Machine, marks: Path
) -> None:
    before = filled.files()
    filled.set_up()
    _start(filled)
    assert not any(marks.iterdir())
    filled.set_up("--prefetch")
    assert _start(filled) == ""
    assert _is_marked(marks)
    filled.set_up("--undo")
    assert filled.files() == before


def test_a_user_s_hook_is_found_and_undone(filled: Machine) -> None:
    before = filled.files()
    filled.set_up_user("--prefetch")
    # podman understands the drop-in.
    assert filled.user("podman ps --quiet").stdout == ""
    (file,) = filled.namespace.outside(f"{HOME}/.config/containers/oci/hooks.d").iterdir()
    assert file.name == "podman-cvmfs-prefetch.json"
    filled.set_up_user("--undo")
    assert filled.files() == before
