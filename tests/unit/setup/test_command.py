# SPDX-License-Identifier: Apache-2.0
"""``podman-cvmfs setup`` with its options and the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from podman_cvmfs.cli import setup as setup_command
from podman_cvmfs.cli.setup import command
from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.setup import record as records
from tests.support.set_up import MIDDLE


def test_system_is_for_root_and_users_are_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for uid, wrong in ((0, "--user"), (1000, "--system")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        result = CliRunner().invoke(command, [wrong])
        assert isinstance(result.exception, InputError)


@pytest.fixture
def dry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., Result]:
    """Sets up for root, but only says how; the settings name ``tmp_path/store``."""
    caplog.set_level("INFO")
    (tmp_path / "config.toml").write_text(f'store = "{tmp_path}/store"\nunknown = 1\n')
    (tmp_path / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setattr(setup_command, "find_generation", lambda: MIDDLE)
    monkeypatch.setattr(records, "SYSTEM_MANIFEST", str(tmp_path / "setup.json"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return lambda *args: CliRunner().invoke(command, ["--dry-run", *args])


def test_the_store_of_the_settings_is_set_up(
    dry: Callable[..., Result], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert f'+additionalimagestores = ["{tmp_path}/store"]' in dry().output
    assert caplog.messages[0].endswith("unknown setting 'unknown' ignored")
    assert f'["{tmp_path}/other"]' in dry("--store", f"{tmp_path}/other").output
    assert isinstance(dry("--store", "").exception, InputError)


def test_a_store_that_cannot_be_read_is_not_taken_for_none(
    dry: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "store").touch()
    error = dry().exception
    assert isinstance(error, StoreError)
    assert error.message == f"can't read the store {tmp_path}/store: Not a directory"


def test_undo_of_nothing_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(records, "SYSTEM_MANIFEST", str(tmp_path / "setup.json"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    result = CliRunner().invoke(command, ["--undo"])
    assert (result.exit_code, caplog.messages) == (0, ["nothing to undo"])
