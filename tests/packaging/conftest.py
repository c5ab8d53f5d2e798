# SPDX-License-Identifier: Apache-2.0
"""The packages, built once; where that takes long or tools are missing, tests say so and skip."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

#: Building and installing takes minutes, so it is done when asked for.
ASKED = os.environ.get("PODMAN_CVMFS_PACKAGING") == "1"


def need(*tools: str) -> None:
    """Skip the test unless packages are asked for; then all the tools must be there."""
    if not ASKED:
        pytest.skip("takes minutes: set PODMAN_CVMFS_PACKAGING=1 to build and install packages")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}", pytrace=False)


def copy_of_checkout(place: Path) -> Path:
    """What git knows of the checkout, as it is here, which others may be changing."""
    place.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (CHECKOUT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name, follow_symlinks=False)
    return place


def build(checkout: Path, output: Path, *options: str) -> Path:
    """Run packaging/build-deb.sh; the directory with what it made."""
    done = subprocess.run(
        [checkout / "packaging/build-deb.sh", output, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return output


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout that stays as it is."""
    return copy_of_checkout(tmp_path_factory.mktemp("source") / "one")


@pytest.fixture(scope="session")
def debs(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the Debian packages of this checkout."""
    need("dpkg-buildpackage", "dh", "pybuild", "help2man", "go")
    return build(checkout, tmp_path_factory.mktemp("debs"))
