# SPDX-License-Identifier: Apache-2.0
"""Completions in real interactive shells, which load them from where installations have them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import CHECKOUT
from tests.support.cli import Target
from tests.support.many import REGISTRY, make_repository
from tests.support.required import required
from tests.support.terminal import Terminal

#: File in packaging/completions -> its place below share.
FILES = {
    "podman-cvmfs": "bash-completion/completions/podman-cvmfs",
    "_podman-cvmfs": "zsh/site-functions/_podman-cvmfs",
    "podman-cvmfs.fish": "fish/vendor_completions.d/podman-cvmfs.fish",
}
SHELLS = {
    "bash": (["bash", "--norc", "-i"], ". /usr/share/bash-completion/bash_completion"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "fpath=({share}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D",
    ),
    "fish": (["fish", "--interactive"], "true"),
}
NAME = f"{REGISTRY}/project/app1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three images."""
    directory = tmp_path_factory.mktemp("completions")
    target = Target(
        make_repository(directory / "repository", 3), directory / "store", directory / "cache"
    )
    target.sync("--offline")
    return target.store


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """Each shell, with the completions installed, and the command."""
    argv, setup = SHELLS[request.param]
    if shutil.which(argv[0]) is None or not os.path.exists("/usr/share/bash-completion"):
        required(f"{argv[0]} or bash-completion is not installed")
    share = tmp_path / "share"
    for name, place in FILES.items():
        (share / place).parent.mkdir(parents=True)
        shutil.copy(CHECKOUT / "packaging/completions" / name, share / place)
    (tmp_path / "a-directory").mkdir()
    (tmp_path / "a-document").touch()
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "XDG_DATA_HOME": str(share),
        "XDG_DATA_DIRS": f"{share}:/usr/share",
    }
    with Terminal(argv, env, tmp_path) as terminal:
        terminal.enter(setup.format(share=share))
        yield terminal


def test_shells_complete(terminal: Terminal, store: Path) -> None:
    for line, more in (
        ("podman-cvmfs stat", "us"),
        ("podman-cvmfs cache imp", "ort"),
        ("podman-cvmfs sync --notif", "ication-file"),
        ("podman-cvmfs sync --overlay fu", "se-overlayfs"),
        ("podman-cvmfs sync --overlay=fu", "se-overlayfs"),
        ("podman-cvmfs status --store a-d", "irectory"),
        (f"podman-cvmfs inspect --store {store} {NAME}", ":1"),
        (f"podman-cvmfs why --store {store} {NAME}:", "1"),
    ):
        # zsh takes the slash of a directory away again when the cursor moves on.
        assert terminal.completed(line, more).rstrip("/") == line + more
