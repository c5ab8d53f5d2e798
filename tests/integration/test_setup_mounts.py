# SPDX-License-Identifier: Apache-2.0
"""Containers of root and of ordinary users see /cvmfs once ``setup --mount-cvmfs`` was run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import podman_cvmfs
from tests.support.one_user import HOME, Machine
from tests.support.podman import BUSYBOX


@pytest.fixture
def cvmfs(machine: Machine, tmp_path: Path) -> Iterator[Machine]:
    """The machine with two repositories below /cvmfs, and a root file system for containers."""
    made = not os.path.isdir("/cvmfs")
    if made:
        os.mkdir("/cvmfs")
    try:
        for name in ("atlas.cern.ch", "sft.cern.ch"):
            (tmp_path / "cvmfs" / name).mkdir(parents=True)
            (tmp_path / "cvmfs" / name / "file").write_text(name)
        machine.bind(tmp_path / "cvmfs", "/cvmfs")
        for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "run", "cvmfs", "data"):
            machine.user(f"mkdir -p ~/rootfs/{name}")
        machine.user(f"cp {BUSYBOX} ~/rootfs/bin/busybox")
        yield machine
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir("/cvmfs")


_RUN = f"podman run --rm --rootfs {HOME}/rootfs /bin/busybox"


def _both(machine: Machine, command: str) -> list[str]:
    """What ``command`` prints in a container of root and in one of the user."""
    printed = []
    for done in (
        machine.root("sh", "-c", f"{_RUN} {command}", check=False),
        machine.user(f"{_RUN} {command}"),
    ):
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    return printed


def test_containers_see_cvmfs(cvmfs: Machine) -> None:
    before = cvmfs.files()
    assert _both(cvmfs, "ls /cvmfs") == [""] * 2
    cvmfs.set_up("--mount-cvmfs")
    assert _both(cvmfs, "ls /cvmfs") == ["atlas.cern.ch\nsft.cern.ch\n"] * 2
    assert _both(cvmfs, "cat /cvmfs/sft.cern.ch/file") == ["sft.cern.ch"] * 2
    refused = cvmfs.root("sh", "-c", f"{_RUN} touch /cvmfs/new", check=False)
    assert "Read-only file system" in refused.stderr
    cvmfs.set_up("--mount-cvmfs=sft.cern.ch")
    assert _both(cvmfs, "ls /cvmfs") == ["sft.cern.ch\n"] * 2
    cvmfs.set_up("--undo")
    assert cvmfs.files() == before


def test_containers_see_what_is_mounted_later(cvmfs: Machine, tmp_path: Path) -> None:
    """As autofs does: on the host, while the container runs."""
    cvmfs.set_up("--mount-cvmfs")
    later = tmp_path / "later"
    later.mkdir()
    (later / "late").write_text("late")
    script = (
        "i=0; until test -e /cvmfs/atlas.cern.ch/late;"
        " do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done"
    )
    started = f"podman run -d --name waiting --rootfs {HOME}/rootfs /bin/busybox sh -c '{script}'"
    for done in (cvmfs.root("sh", "-c", started), cvmfs.user(started)):
        assert done.returncode == 0, done.stderr
    cvmfs.namespace.run(["mount", "--bind", later, "/cvmfs/atlas.cern.ch"])
    assert cvmfs.root("podman", "wait", "waiting").stdout == "0\n"
    assert cvmfs.user("podman wait waiting").stdout == "0\n"


def test_admin_s_volumes_stay_in_containers(cvmfs: Machine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "mine").write_text("")
    cvmfs.bind(data, "/usr/share/containers")
    drop_in = cvmfs.namespace.outside("/etc/containers/containers.conf.d/50-admin.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text('[containers]\nvolumes = ["/usr/share/containers:/data:ro"]\n')
    cvmfs.set_up("--mount-cvmfs=sft.cern.ch")
    assert _both(cvmfs, "ls /cvmfs /data") == ["/cvmfs:\nsft.cern.ch\n\n/data:\nmine\n"] * 2


def test_missing_repository_is_refused(cvmfs: Machine) -> None:
    before = cvmfs.files()
    done = podman_cvmfs("setup", "--mount-cvmfs=none.cern.ch", within=cvmfs.namespace)
    assert done.returncode == 3
    assert "/cvmfs/none.cern.ch is missing" in done.stderr
    assert cvmfs.files() == before
