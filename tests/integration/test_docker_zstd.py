# SPDX-License-Identifier: Apache-2.0
"""An image with zstd in a manifest of Docker's form, on every podman."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.ask import major_of
from tests.matrix.host import Machine
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.images import Image, build, push
from tests.support.podman import write_toml
from tests.support.registry import Registry
from tests.support.required import required
from tests.support.roots import GENERATIONS, default_directory, host_codename, present

_IMAGE = Image(
    "t/docker-zstd:1",
    ["base:zstd", "other:zstd"],
    {"Cmd": ["cat", "opt/other/file"], "Env": ["PATH=/bin"]},
    "application/vnd.docker",
    "other\n",
)
_GOOD = Image("t/gzip:1", ["base"], {"Cmd": ["true"]}, "application/vnd.docker")


@pytest.fixture(params=[each.codename for each in GENERATIONS])
def root(request: pytest.FixtureRequest) -> Path:
    """The root file system with the podman of each release."""
    is_here = request.param == host_codename()
    found = Path("/") if is_here else present(default_directory(), request.param)
    if found is None:
        required(f"there is no Debian {request.param} in {default_directory()}")
    return found


def test_every_podman_runs_it(
    root: Path, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(root, tmp_path)
    try:
        version = machine.run(["podman", "--version"]).stdout.split()[-1]
        # The sync asks the podman in PATH.
        script = tmp_path / "bin/podman"
        script.parent.mkdir()
        script.write_text(f"#!/bin/sh\necho podman version {version}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        built = build(_IMAGE)
        name, good = push(built, registry), push(build(_GOOD), registry)
        target = Target(tmp_path / "repository", tmp_path / "store", tmp_path / "cache")
        sources = [f"http://{each}" for each in (name, good)]
        succeed("publish", *sources, "--repository", target.repository)
        target.sync()
        (shown,) = json.loads(succeed("inspect", name, "--store", target.store))
        reads = major_of(version) != 4 and not version.startswith("5.4.")
        assert shown["ManifestOrigin"] == ("genuine" if reads else "converted")
        assert (shown["Digest"] == built.digest) is reads
        assert podman_cvmfs("verify", "--store", target.store).returncode == 0

        environ = _configure(tmp_path, target.store)

        def podman(*args: str) -> str:
            return machine.run(["podman", *args], env=environ).stdout

        assert sorted(podman("images", "--format={{.Repository}}:{{.Tag}}").split()) == sorted(
            [name, good]
        )
        digest = podman("image", "inspect", "--format={{.Digest}}", name).strip()
        assert (digest == built.digest) is reads
        assert podman("run", "--rm", "--pull=never", name) == _IMAGE.prints
    finally:
        machine.close()


def _configure(root: Path, store: Path) -> dict[str, str]:
    files = {name: root / f"{name}.conf" for name in ("storage", "containers")}
    places = {"graphroot": str(root / "graph"), "runroot": "/run/containers/storage"}
    write_toml(
        files["storage"],
        {
            "storage": {"driver": "overlay", **places},
            "storage.options": {"additionalimagestores": [str(store)]},
        },
    )
    write_toml(
        files["containers"],
        {
            "containers": {
                "default_ulimits": ["nofile=1024:1024", "nproc=1000:1000"],
                "netns": "none",
                "cgroups": "disabled",
            },
            "engine": {
                "runtime": "crun",
                "cgroup_manager": "cgroupfs",
                "events_logger": "file",
            },
        },
    )
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "CONTAINERS_STORAGE_CONF": str(files["storage"]),
        "CONTAINERS_CONF": str(files["containers"]),
    }
