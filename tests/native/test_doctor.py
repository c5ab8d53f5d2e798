# SPDX-License-Identifier: Apache-2.0
"""The real library reads storage.conf and the environment just as doctor does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.doctor.facts import Facts, Native, Place
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look.engine import look_at_configuration, look_at_engine, look_at_native
from podman_cvmfs.storage_native import Artefact

_CONF = """\
[storage]
driver = "overlay"
graphroot = "/var/tmp/graph"
runroot = "/var/tmp/run"
[storage.options]
additionalimagestores = ["/one", "/two"]
"""


@pytest.fixture
def conf(tmp_path: Path, artefact: Artefact, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage.conf that the environment names."""
    path = tmp_path / "storage.conf"
    path.write_text(_CONF)
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path))
    monkeypatch.setenv("PODMAN_CVMFS_NATIVE_LIBRARY", artefact.path)
    for name in ("PODMAN_CVMFS_NATIVE", "STORAGE_OPTS", "STORAGE_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    return path


def _compared(native: Native | None = None) -> list[str]:
    """The conditions of the library that are found."""
    engine, generation = look_at_engine()
    facts = Facts(
        Place("/one"),
        engine=engine,
        configuration=look_at_configuration(generation, "/one"),
        native=native or look_at_native(),
    )
    found = {each.condition.name for each in judge(facts)}
    return sorted(found & {"native-disagrees", "native-missing"})


@pytest.mark.parametrize("options", ["", "overlay.imagestore=/three,overlay.mountopt=nodev"])
@pytest.mark.parametrize("driver", ["", "overlay"])
@pytest.mark.usefixtures("conf")
def test_both_read_the_same(monkeypatch: pytest.MonkeyPatch, options: str, driver: str) -> None:
    if options:
        monkeypatch.setenv("STORAGE_OPTS", options)
    if driver:
        monkeypatch.setenv("STORAGE_DRIVER", driver)
    native = look_at_native()
    assert native.stores == (("/three",) if options else ("/one", "/two"))
    assert _compared(native) == []


@pytest.mark.usefixtures("conf")
def test_differences_are_told() -> None:
    native = look_at_native()
    assert _compared(replace(native, stores=("/two", "/one"))) == ["native-disagrees"]
    assert _compared(replace(native, graphroot="/other")) == ["native-disagrees"]


def test_what_the_library_cannot_read(conf: Path) -> None:
    conf.write_text("[storage]\ndriver = 3\n")
    assert look_at_native().failure
    conf.write_text('[storage]\ndriver = "overlay"\n')  # no directories
    assert _compared() == ["native-disagrees"]


@pytest.mark.usefixtures("conf")
def test_off_and_required(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODMAN_CVMFS_NATIVE", "off")
    assert _compared() == []
    monkeypatch.setenv("PODMAN_CVMFS_NATIVE", "require")
    monkeypatch.setenv("PODMAN_CVMFS_NATIVE_LIBRARY", str(tmp_path))
    assert _compared() == ["native-missing"]
    monkeypatch.setenv("PODMAN_CVMFS_NATIVE", "auto")
    assert look_at_native().problem == "not installed"
    assert _compared() == []
