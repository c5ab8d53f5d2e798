# SPDX-License-Identifier: Apache-2.0
"""doctor finds CernVM-FS's cache and graphroots that are on one file system."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.doctor.facts import Client
from podman_cvmfs.doctor.look import client as look_client
from podman_cvmfs.doctor.look.client import look_at_clients
from podman_cvmfs.usage.graphroots import Graphroots
from tests.integration.conftest import Gallery
from tests.support.cli import Target, podman_cvmfs
from tests.support.mounted import Mounted, mounted
from tests.support.podman import Host, running

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Mounted]:
    """A repository that a client shows."""
    repository = tmp_path / "repository"
    (repository / ".flat").mkdir(parents=True)
    with mounted(repository, tmp_path / "mount", tmp_path / "client") as found:
        yield found


@pytest.fixture
def graphroots(monkeypatch: pytest.MonkeyPatch) -> Graphroots:
    """The graphroots of this machine, to be filled."""
    found = Graphroots()
    monkeypatch.setattr(look_client, "find_graphroots", lambda: found)
    return found


def _settings(monkeypatch: pytest.MonkeyPatch, found: dict[str, str]) -> None:
    """Have these be what the client's files set for the repository."""

    def settings(name: str) -> dict[str, str]:
        return found if name == "unpacked.example.org" else {}

    monkeypatch.setattr(look_client, "client_settings", settings)


def test_doctor_tells(client: Mounted, tmp_path: Path, podman_host: Host) -> None:
    """podman's own graphroot is on the file system of the tests, and so is the client's cache."""
    with running(tmp_path / "podman", stores=[], on=podman_host) as podman:
        podman.run("images")
        command = ["env", *(f"{name}={value}" for name, value in podman.env.items())]
        places = ("--repository", client.mountpoint, "--store", tmp_path / "store")
        done = podman_cvmfs(
            *("-q", "doctor", "--format", "json"), *places, within=podman.namespace, prefix=command
        )
    findings = {each["condition"]: each for each in json.loads(done.stdout)["findings"]}
    found = findings["starts-may-hang"]
    assert str(client.cache) in found["found"] and str(podman.graphroot) in found["found"]
    assert "CVMFS_SERVER_CACHE_MODE=yes" in found["cure"]


def test_a_graphroot_beside_the_cache(
    client: Mounted, graphroots: Graphroots, tmp_path: Path
) -> None:
    beside, apart = tmp_path / "graphroot", "/dev/shm"
    beside.mkdir()
    graphroots.own += [str(beside), apart]
    graphroots.others += [apart, str(tmp_path)]
    mount, cache = str(client.mountpoint), str(client.cache)
    assert look_at_clients([mount], 10) == (
        Client(mount, cache, False, (str(beside),), (str(tmp_path),)),
    )


def test_a_client_that_moves_within_one_directory(
    client: Mounted, graphroots: Graphroots, monkeypatch: pytest.MonkeyPatch
) -> None:
    for settings, expected in (
        ({"CVMFS_SERVER_CACHE_MODE": "yes"}, True),
        ({"CVMFS_SERVER_CACHE_MODE": "no"}, False),
        ({"CVMFS_SERVER_CACHE_MODE": "yes", "CVMFS_CACHE_SERVER_MODE": "no"}, False),
    ):
        _settings(monkeypatch, settings)
        (found,) = look_at_clients([str(client.mountpoint)], 10)
        assert found.one_directory is expected


def test_who_may_not_see_the_process_asks_the_settings(
    client: Mounted, graphroots: Graphroots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(os, "readlink", refuse)
    for settings, expected in (
        ({}, "/var/lib/cvmfs"),
        ({"CVMFS_CACHE_BASE": "/c"}, "/c"),
        ({"CVMFS_CACHE_BASE": "/c", "CVMFS_CACHE_DIR": "/d"}, "/d"),
    ):
        _settings(monkeypatch, settings)
        (found,) = look_at_clients([str(client.mountpoint)], 10)
        assert found.cache == expected


def test_containers_that_a_crashed_client_has_cut_off(
    gallery: Gallery, tmp_path: Path, podman_host: Host
) -> None:
    places = (tmp_path / "mount", tmp_path / "store", tmp_path / "cache")
    with mounted(gallery.target.repository, places[0], tmp_path / "client") as client:
        Target(*places).sync("--offline")
        with running(tmp_path / "podman", stores=[places[1]], on=podman_host) as podman:
            image = gallery.name("t/single:1")
            podman.run("run", "--detach", "--name=here", "--pull=never", image, "sleep", "100")

            def conditions() -> dict[str, str]:
                env = ["env", *(f"{name}={value}" for name, value in podman.env.items())]
                options = ("--repository", places[0], "--store", places[1])
                done = podman_cvmfs(
                    *("-q", "doctor", "--format", "json"),
                    *options,
                    within=podman.namespace,
                    prefix=env,
                )
                listed = json.loads(done.stdout)["findings"]
                return {each["condition"]: each["found"] for each in listed}

            assert "containers-stuck" not in conditions()
            client.die()
            assert conditions()["containers-stuck"].startswith("here: ")
