# SPDX-License-Identifier: Apache-2.0
"""A machine that publishes one CernVM-FS repository, by the stand-in for its server."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cvmfs_server
from tests.support.cli import podman_cvmfs
from tests.support.namespace import Namespace

NAME = "images.example.org"


class Server:
    """A machine that publishes one repository by the stand-in."""

    def __init__(self, tmp_path: Path, within: Namespace) -> None:
        self.root = tmp_path / "server"
        self.tree = self.root / NAME
        self.staging = tmp_path / "staging"
        self.within = within
        self.tree.mkdir(parents=True)
        served = f"/etc/cvmfs/repositories.d/{NAME}"
        within.run(["sh", "-c", f"mkdir -p {served} && touch {served}/server.conf"])
        within.run(["mkdir", f"/cvmfs/{NAME}"])
        within.run(["mount", "-o", "bind", str(self.tree), f"/cvmfs/{NAME}"])
        within.run(["mount", "-o", "remount,ro,bind", f"/cvmfs/{NAME}"])

    def argv(self, *words: str | Path) -> list[str]:
        words = ("publish", *words, "--repository", f"/cvmfs/{NAME}", "--staging", self.staging)
        return [*map(str, words)]

    def publish(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return podman_cvmfs(*self.argv(*words), within=self.within)

    @property
    def transactions(self) -> int:
        log = self.root / f"{NAME}.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def visible(self) -> list[str]:
        return sorted(os.listdir(self.tree))

    def staged(self) -> list[str]:
        return [each for each in os.listdir(self.staging / NAME) if "podman-cvmfs" not in each]


@contextlib.contextmanager
def publishing_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The machine, with its own /cvmfs and /etc/cvmfs."""
    program = tmp_path / "bin/cvmfs_server"
    program.parent.mkdir()
    program.symlink_to(cvmfs_server.__file__)
    Path(cvmfs_server.__file__).chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PODMAN_CVMFS_TEST_SERVER", str(tmp_path / "server"))
    for directory in ("/cvmfs", "/etc/cvmfs"):
        os.makedirs(directory, exist_ok=True)
    within = Namespace()
    try:
        for directory in ("/cvmfs", "/etc/cvmfs"):
            within.run(["mount", "-t", "tmpfs", "tmpfs", directory])
        yield Server(tmp_path, within)
    finally:
        within.close()
