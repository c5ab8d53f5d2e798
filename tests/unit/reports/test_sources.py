# SPDX-License-Identifier: Apache-2.0
"""Which store the commands ask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.reports.sources import target_of
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.files import Settings


@pytest.mark.parametrize(
    ("uid", "own", "system", "for_user", "named", "expected"),
    [
        (0, False, False, None, False, "own"),
        (1000, True, True, None, False, "own"),
        (1000, False, True, None, False, "system"),
        (1000, False, False, None, False, "own"),
        (1000, True, True, False, False, "system"),
        (1000, False, True, True, False, "own"),
        (1000, False, True, None, True, "own"),
    ],
)
def test_which_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    own: bool,
    system: bool,
    for_user: bool | None,
    named: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(paths, "SYSTEM_STORE", str(tmp_path / "system"))
    for name, there in (("own", own), ("system", system)):
        if there:
            (tmp_path / name).mkdir()
    sources = {"store": "command line"} if named else {}
    settings = Settings(store=str(tmp_path / "own"), cache="/c", sources=sources)
    found = target_of(settings, for_user)
    assert found.store == str(tmp_path / expected)
    assert found.cache == (paths.SYSTEM_CACHE if expected == "system" else "/c")
