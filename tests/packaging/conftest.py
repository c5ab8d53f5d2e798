# SPDX-License-Identifier: Apache-2.0
"""The packages, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.installed import CONTAINERS_CONF, IMAGE, older
from tests.packaging.machine import SUITES, CleanMachine, present
from tests.support.cli import succeed
from tests.support.images import IMAGES, write_layout
from tests.support.images import build as build_image
from tests.support.required import required

CHECKOUT = Path(__file__).resolve().parents[2]


def need(*tools: str) -> None:
    """Go on only if all the tools are installed."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        required(f"not installed: {', '.join(missing)}; tests/run.sh names the packages")


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


def build(script: str, checkout: Path, output: Path, *options: str) -> Path:
    """Run a script of packaging/; the directory with what it made."""
    done = subprocess.run(
        [checkout / "packaging" / script, output, *options],
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
    need("dpkg-buildpackage", "dh", "pybuild", "go")
    return build("build-deb.sh", checkout, tmp_path_factory.mktemp("debs"))


@pytest.fixture(scope="session")
def rpms(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the RPMs of this checkout."""
    need("rpmbuild", "rpm")
    return build("build-rpm.sh", checkout, tmp_path_factory.mktemp("rpms"))


def root_of(suite: str) -> Path:
    """The root of a clean release."""
    need("unshare", "nsenter")
    if os.geteuid() != 0:
        required("installing packages needs root")
    root = present(suite)
    if root is None:
        required(f"no clean {suite} here: python -m tests.packaging.machine makes it")
    return root


@pytest.fixture(scope="package", params=SUITES)
def machine(
    request: pytest.FixtureRequest, debs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CleanMachine]:
    """A clean release with the packages in its /packages, and a repository with one image."""
    suite: str = request.param
    root = root_of(suite)
    data = tmp_path_factory.mktemp("machine")
    for deb in debs.glob("*.deb"):
        shutil.copy(deb, data)
    (image,) = (image for image in IMAGES if image.name == "t/delete:1")
    write_layout([build_image(image)], data / "layout")
    succeed("publish", data / "layout", "--name", IMAGE, "--repository", data / "repository")
    older(data)
    machine = CleanMachine(suite, root, data)
    try:
        (machine.outside("/etc/containers")).mkdir(exist_ok=True)
        machine.outside("/etc/containers/containers.conf").write_text(CONTAINERS_CONF)
        yield machine
    finally:
        machine.close()
