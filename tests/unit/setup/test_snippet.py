# SPDX-License-Identifier: Apache-2.0
"""The file for login shells, run by shells."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.setup import snippet
from tests.support.set_up import write


class Login:
    """Runs the file for login shells as an ordinary user would, with a podman of the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        (self.store / "overlay-images").mkdir(parents=True)
        (root / "bin").mkdir()
        write(root / "bin/id", b"#!/bin/sh\necho 1000\n").chmod(0o755)
        self.podman(understands=False)
        os.environ["PATH"], path = f"{root}/bin:{os.environ['PATH']}", os.environ["PATH"]
        self.seen = snippet.podman_seen()
        os.environ["PATH"] = path

    def podman(self, *, understands: bool) -> None:
        said = "exit 0" if understands else "echo additionalimagestores: no >&2; exit 1"
        text = f'#!/bin/sh\ncp "$CONTAINERS_STORAGE_CONF" {self.root}/asked\n{said}\n'
        shutil.rmtree(self.root / "bin/podman", ignore_errors=True)
        write(self.root / "bin/podman.new", text.encode()).chmod(0o755)
        os.replace(self.root / "bin/podman.new", self.root / "bin/podman")

    def options(self, shell: str = "sh", **env: str) -> str:
        profile = self.root / "profile.sh"
        profile.write_text(snippet.profile_text(str(self.store), None, self.seen))
        script = f'set -eu; . {profile}; printf %s "${{STORAGE_OPTS-unset}}"'
        done = subprocess.run(
            [shell, "-c", script],
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin", "HOME": str(self.root), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def login(tmp_path: Path) -> Login:
    return Login(tmp_path)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_login_gets_the_store(login: Login, shell: str) -> None:
    ours = f"overlay.imagestore={login.store}"
    assert login.options(shell) == ours
    assert not (login.root / "asked").exists()
    assert login.options(shell, STORAGE_OPTS="overlay.size=1") == f"overlay.size=1,{ours}"
    assert login.options(shell, STORAGE_OPTS=ours) == ours


def test_login_leaves_own_settings_alone(login: Login) -> None:
    assert login.options(CONTAINERS_STORAGE_CONF="/x") == "unset"
    assert login.options(STORAGE_DRIVER="vfs") == "unset"
    own = write(login.root / ".config/containers/storage.conf", b"")
    assert login.options() == "unset"
    own.unlink()
    (login.root / ".local/share/containers/storage/vfs-images").mkdir(parents=True)
    assert login.options() == "unset"


def test_login_names_no_store_that_is_gone(login: Login) -> None:
    shutil.rmtree(login.store)
    assert login.options() == "unset"


def test_login_of_root_gets_nothing(login: Login) -> None:
    write(login.root / "bin/id", b"#!/bin/sh\necho 0\n")
    assert login.options() == "unset"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_login_after_an_upgrade_asks_podman(login: Login, shell: str) -> None:
    login.podman(understands=False)
    assert login.options(shell).startswith("overlay.imagestore=")
    assert "{append=true}" in (login.root / "asked").read_text()
    login.podman(understands=True)
    assert login.options(shell) == "unset"


def test_environment_takes_plain_paths_only() -> None:
    for path in ("/a b", "/a$b", "/a'b", "/ä"):
        with pytest.raises(InputError, match="can't get"):
            snippet.profile_text(path, None, "")
    assert "overlay.mount_program=/bin/fo" in snippet.profile_text("/s", "/bin/fo", "")
