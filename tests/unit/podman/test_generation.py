# SPDX-License-Identifier: Apache-2.0
"""podman itself tells which syntax it understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.generation import (
    Generation,
    find_generation,
    reads_no_drop_ins,
)
from tests.support.set_up import write


def fake_podman(directory: Path, script: str) -> dict[str, str]:
    write(directory / "podman", f"#!/bin/sh\n{script}\n".encode()).chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin", "HOME": "/"}


def test_podman_is_asked_what_it_understands(tmp_path: Path) -> None:
    script = """\
[ "$1" = --version ] && { echo podman version 5.5.1; exit; }
grep -q append "$CONTAINERS_STORAGE_CONF" && exit 1
exit 0"""
    found = find_generation(fake_podman(tmp_path, script))
    assert found == Generation("5.5.1", drop_ins=False, appends=True)


def test_podman_that_can_t_start_is_told(tmp_path: Path) -> None:
    script = "[ $1 = --version ] && exit; echo broken here >&2; exit 1"
    with pytest.raises(InputError, match="broken here"):
        find_generation(fake_podman(tmp_path, script))
    with pytest.raises(InputError, match="not in PATH"):
        find_generation({"PATH": str(tmp_path / "none"), "HOME": "/"})


@pytest.mark.parametrize(
    ("script", "older"),
    [
        ("grep -q append $CONTAINERS_STORAGE_CONF && echo bad additionalimagestores >&2", True),
        ("echo something else >&2; exit 1", False),
        ("exit 0", False),
    ],
)
def test_another_engine_is_asked_too(tmp_path: Path, script: str, older: bool) -> None:
    write(tmp_path / "engine", f"#!/bin/sh\n{script}\n".encode()).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/"}
    assert reads_no_drop_ins("engine", environ) == older
    assert not reads_no_drop_ins("no-such-engine", environ)
