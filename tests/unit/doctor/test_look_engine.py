# SPDX-License-Identifier: Apache-2.0
"""doctor looks at podman and its configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.doctor.facts import Engine, Native
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look import engine
from podman_cvmfs.podman.storage_conf.generation import Generation
from tests.support.doctor_facts import CONFIGURATION, EFFECTIVE, ROOT, STORE


def test_what_an_unknown_podman_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "storage.conf"
    path.write_text('[storage.options]\nadditionalimagestores = ["/a", {append=true}]\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path))
    (tmp_path / "podman").touch(mode=0o755)
    for version, bin_path, expected in (
        ("4.3.1", tmp_path, (str(path),)),
        # It may fail for just that.
        ("", tmp_path, (str(path),)),
        ("", "/none", ()),
    ):
        monkeypatch.setenv("PATH", str(bin_path))
        found = engine.look_at_configuration(Generation(version, False, False), STORE)
        assert found.with_append == expected, (version, bin_path)


def test_the_variables_that_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in engine.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "storage.conf"
    path.write_text(f'[storage.options]\nadditionalimagestores = ["{STORE}", {{append=true}}]\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF_OVERRIDE", str(path))
    found = engine.look_at_configuration(Generation("6.0.0", True, True), STORE)
    assert found.environment == {"CONTAINERS_STORAGE_CONF_OVERRIDE": str(path)}
    assert STORE in found.effective.stores


def test_the_library_resolves_links(tmp_path: Path) -> None:
    """A home directory that is a link to where passwd(5) has it."""
    (tmp_path / "nfs/ann").mkdir(parents=True)
    (tmp_path / "ann").symlink_to("nfs/ann")
    here, there = (f"{tmp_path}/{each}" for each in ("ann", "nfs/ann"))
    effective = replace(EFFECTIVE, stores=(f"{here}/store", "/other"))
    configuration = replace(CONFIGURATION, effective=effective, graphroot=f"{here}/storage")
    theirs = Native(
        version="1.43", graphroot=f"{there}/storage", stores=(f"{there}/store", "/elsewhere")
    )
    found = engine.as_spelt(theirs, configuration)
    assert (found.graphroot, found.stores) == (f"{here}/storage", (f"{here}/store", "/elsewhere"))
    stores = (f"{there}/store", "/other")
    agreed = engine.as_spelt(replace(theirs, stores=stores), configuration)
    assert judge(replace(ROOT, configuration=configuration, native=agreed)) == []


def test_storage_remembers_its_mount_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/fuse-overlayfs"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "overlay").mkdir()
    podman = tmp_path / "bin/podman"
    said = {"store": {"graphDriverName": "overlay", "graphRoot": str(tmp_path)}}
    podman.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    podman.chmod(0o755)
    assert engine.ask_podman(Engine("5.4.2"), 60).mount_program == ""
    for text, found in (("false", ""), ("true", str(program))):
        (tmp_path / "overlay/.has-mount-program").write_text(text)
        assert engine.ask_podman(Engine("5.4.2"), 60).mount_program == found
