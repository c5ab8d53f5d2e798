# SPDX-License-Identifier: Apache-2.0
"""The output of ``podman-cvmfs doctor``."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.doctor.facts import Presence
from podman_cvmfs.doctor.look.store import look_at_place
from tests.support.cli import podman_cvmfs
from tests.support.stores import Spoilt


def test_store_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert look_at_place(str(path), 10).presence is Presence.OTHER
    done = podman_cvmfs("doctor", "--store", path)
    assert "store-not-directory" in done.stdout
    assert "--store " + str(path) not in done.stdout and "chmod" not in done.stdout


def test_what_people_read(spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("offline = true\nunknown = 1\n")
    (tmp_path / "storage.conf").write_text(
        '[storage]\ndriver = "overlay"\nrunroot = "/tmp/r"\ngraphroot = "/none"\n'
        f'[storage.options]\nadditionalimagestores = ["{spoilt.path}", "/none/\\u001b[31m"]\n'
    )
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    places = ("--store", spoilt.path, "--repository", spoilt.repository)
    done = podman_cvmfs("doctor", *places)
    assert done.returncode == 5, done.stderr
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    store = next(line for line in lines if line.startswith("store "))
    assert store.endswith(f"{spoilt.path}: there, 3 images, podman uses it")
    first = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    assert lines[first].startswith("error: store-missing: /none/\\x1b[31m isn't there, and ")
    assert lines[first + 1].startswith("  means: every podman command fails")
    assert lines[first + 2] == r"  cure: mkdir -p '/none/\x1b[31m'"
    assert any(line.startswith("warning: settings-unknown: ") for line in lines)
    assert "error: 1 error, the worst is store-missing" in done.stderr
