# SPDX-License-Identifier: Apache-2.0
"""doctor looks at stores, repositories and units."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.doctor.facts import Presence
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look.machine import read_units
from podman_cvmfs.doctor.look.repository import look_at_repositories
from podman_cvmfs.doctor.look.store import look_at_contents, look_at_place
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.util.probe import HangingError, bounded
from podman_cvmfs.verify.fault import Severity
from tests.support.doctor_facts import ROOT
from tests.support.stores import Spoilt


def test_bounded_gives_answers_and_errors() -> None:
    assert bounded(lambda: {"a": [1]}, 10) == {"a": [1]}
    with pytest.raises(FileNotFoundError):
        bounded(lambda: os.listdir("/none"), 10)
    with pytest.raises(OSError, match="has died"):
        bounded(lambda: os.kill(os.getpid(), signal.SIGKILL), 10)


def test_bounded_waits_no_longer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    start = time.monotonic()
    with pytest.raises(HangingError):
        bounded(fifo.read_bytes, 0.2)
    assert time.monotonic() - start < 5


def test_units_that_are_installed() -> None:
    text = (
        "Id=podman-cvmfs-sync.timer\nLoadState=loaded\nActiveState=active\n\n"
        "Id=podman-cvmfs-watch.service\nLoadState=not-found\nActiveState=inactive\n"
    )
    found = read_units(text)
    assert found.known and list(found.states) == ["podman-cvmfs-sync.timer"]
    assert judge(replace(ROOT, units=found)) == []


def test_good_store_and_repository(spoilt: Spoilt) -> None:
    place = look_at_place(str(spoilt.path), 10)
    assert place.presence is Presence.THERE
    assert (place.lacking, set(place.locks.values()), place.owner) == ((), {64}, os.geteuid())
    assert place.names >= set(spoilt.content.names)
    found = look_at_contents(str(spoilt.path), "1 auto base kernel", 60)
    assert (found.problem, found.faults, found.images) == ("", (), 3)
    assert (found.overlay, found.repositories) == ("kernel", (str(spoilt.repository),))
    settings = Settings((str(spoilt.repository),), store=str(spoilt.path), cache="/none")
    (repository,) = look_at_repositories(settings, found.repositories, 10)
    assert repository.presence is Presence.THERE
    assert (repository.empty, repository.foreign) == (False, False)
    assert repository.owners == (os.geteuid(),)


def test_spoilt_store(spoilt: Spoilt) -> None:
    os.truncate(spoilt.path / "overlay-layers/layers.lock", 0)
    spoilt.image_path("config").unlink()
    (spoilt.path / "overlay-images/images.lock").unlink()
    place = look_at_place(str(spoilt.path), 10)
    assert place.lacking == ("overlay-images/images.lock",)
    assert set(place.locks.values()) == {0}
    faults = look_at_contents(str(spoilt.path), "", 60).faults
    assert any(each.severity is Severity.ERROR for each in faults)
    (spoilt.generation / "state.json").write_text("{")
    assert "state.json" in look_at_contents(str(spoilt.path), "", 60).problem


def test_closed_store(spoilt: Spoilt) -> None:
    spoilt.path.chmod(0o700)
    assert str(spoilt.path) in look_at_place(str(spoilt.path), 10).closed_at


def test_store_that_is_not_there(tmp_path: Path) -> None:
    assert look_at_place(str(tmp_path / "none"), 10).presence is Presence.MISSING


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, {"presence": Presence.MISSING}),
        (lambda path: path.mkdir(), {"empty": True}),
        (lambda path: (path / "other").mkdir(parents=True), {"empty": False, "foreign": True}),
        (lambda path: path.write_text(""), {"problem": "Not a directory"}),
    ],
)
def test_bad_repository(tmp_path: Path, make: Any, expected: dict[str, object]) -> None:
    path = tmp_path / "repository"
    make(path)
    (found,) = look_at_repositories(Settings((str(path),)), (), 10)
    assert {name: getattr(found, name) for name in expected} == expected
