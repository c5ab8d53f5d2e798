# SPDX-License-Identifier: Apache-2.0
"""The RPMs as far as a Debian can tell: built twice, judged by rpmlint, and their scriptlets run by
rpm in a root whose Python has what they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from podman_cvmfs import __version__
from tests.packaging.conftest import CHECKOUT, need
from tests.packaging.machine import CleanMachine, make_root

RPM = CHECKOUT / "packaging/rpm"
STORE = "/var/lib/podman-cvmfs/store"


def build(checkout: Path, output: Path) -> Path:
    """Run packaging/build-rpm.sh; the directory with what it made."""
    need("rpmbuild", "rpm", "help2man")
    script = checkout / "packaging/build-rpm.sh"
    done = subprocess.run(
        [script, output], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return output


@pytest.fixture(scope="module")
def rpms(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the RPMs of this checkout."""
    return build(checkout, tmp_path_factory.mktemp("rpms"))


def test_the_spec_has_this_version() -> None:
    text = (RPM / "podman-cvmfs.spec").read_text()
    assert re.findall(r"^Version: *(.*)$", text, re.MULTILINE) == [__version__]
    assert re.search(rf"^%changelog\n.* - {re.escape(__version__)}-1$", text, re.MULTILINE)


def test_every_build_gives_the_same_binary_packages(
    checkout: Path, rpms: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkout, tmp_path / "elsewhere")
    again = build(tmp_path / "elsewhere", tmp_path / "again")
    made = sorted(path.name for path in rpms.glob("*.noarch.rpm"))
    assert len(made) == 3
    for name in made:
        assert (rpms / name).read_bytes() == (again / name).read_bytes(), name


def test_rpmlint_has_nothing_to_say(rpms: Path) -> None:
    need("rpmlint")
    argv = ["rpmlint", "--rpmlintrc", RPM / "podman-cvmfs.rpmlintrc"]
    done = subprocess.run(
        [*argv, *rpms.glob("*.rpm"), RPM / "podman-cvmfs.spec"], capture_output=True, text=True
    )
    said = [line for line in done.stdout.splitlines() if re.search(r": [EW]: ", line)]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_spec_parses_for_each_distribution() -> None:
    need("rpmspec")
    for name, release, by_macro in (("fedora", 42, True), ("rhel", 10, True), ("rhel", 9, False)):
        argv = ["rpmspec", "--parse", f"--load={RPM}/macros.elsewhere"]
        argv += ["--define", f"{name} {release}", str(RPM / "podman-cvmfs.spec")]
        parsed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert ("pyproject_wheel" in parsed) is by_macro
        assert ("hatchling build" in parsed) is not by_macro


def test_installed_and_erased(rpms: Path, tmp_path: Path) -> None:
    need("mmdebstrap", "unshare")
    machine = CleanMachine("bookworm", make_root("bookworm"), tmp_path)
    try:
        root = machine.outside("/")

        def rpm(*args: str | Path) -> str:
            # Debian's packages aren't in rpm's books, so nothing is known to be there.
            argv = ["rpm", f"--root={root}", *args]
            env = {**os.environ, "LC_ALL": "C.UTF-8"}
            done = subprocess.run(
                argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            assert done.returncode == 0 and "scriptlet failed" not in done.stderr, done.stderr
            return done.stdout + done.stderr

        podman = ["podman", "images", "-q"]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        rpm("--initdb")
        (package,) = rpms.glob("podman-cvmfs-0*.noarch.rpm")
        (drop_in,) = rpms.glob("podman-cvmfs-storage-conf-*.noarch.rpm")
        (mount,) = rpms.glob("podman-cvmfs-mount-*.noarch.rpm")
        rpm("--install", "--nodeps", package, drop_in, mount)
        assert machine.sh("podman-cvmfs --version").split()[-1] == __version__
        machine.sh(f"test -s {STORE}/overlay-layers/layers.lock; test -d /cvmfs")
        dropped = machine.sh("cat /usr/share/containers/storage.conf.d/99-podman-cvmfs.conf")
        assert f'"{STORE}"' in dropped
        assert rpm("--verify", "--nodeps", "podman-cvmfs") == ""
        # This podman can't read the appending array, which is why Debian's package refuses it.
        rpm("--erase", "podman-cvmfs-mount")
        machine.sh("test ! -e /etc/containers/containers.conf.d/50-podman-cvmfs-mount.conf")

        before = machine.sh("ls -R /etc/containers")
        machine.sh("podman-cvmfs setup")
        assert machine.run(podman, env=env).stdout == ""
        # An upgrade: the store stays as it is, and so does what set-up did.
        stamp = machine.sh(f"stat -c %i {STORE}/overlay-layers/")
        rpm("--upgrade", "--nodeps", "--replacepkgs", package)
        assert machine.sh(f"stat -c %i {STORE}/overlay-layers/") == stamp
        assert machine.run(podman, env=env).stdout == ""
        machine.sh("test -e /etc/containers/storage.conf")

        rpm("--erase", "podman-cvmfs", "podman-cvmfs-storage-conf")
        assert machine.sh("ls -R /etc/containers") == before
        assert machine.run(podman, env=env).stdout == ""
        machine.sh(f"test -d {STORE}; test ! -e /usr/bin/podman-cvmfs")
    finally:
        machine.close()
