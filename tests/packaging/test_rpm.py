# SPDX-License-Identifier: Apache-2.0
"""The RPMs as far as a Debian can tell: built twice, judged by rpmlint, and their scriptlets run by
rpm in a root whose Python has what they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs import __version__
from tests.packaging.conftest import CHECKOUT, build, need, root_of
from tests.packaging.machine import RPM_SUITE, CleanMachine

RPM = CHECKOUT / "packaging/rpm"
STORE = "/var/lib/podman-cvmfs/store"


def test_the_spec_has_this_version() -> None:
    text = (RPM / "podman-cvmfs.spec").read_text()
    assert re.findall(r"^Version: *(.*)$", text, re.MULTILINE) == [__version__]
    assert re.search(rf"^%changelog\n.* - {re.escape(__version__)}-1$", text, re.MULTILINE)


def test_every_build_gives_the_same_binary_packages(
    checkout: Path, rpms: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkout, tmp_path / "elsewhere")
    again = build("build-rpm.sh", tmp_path / "elsewhere", tmp_path / "again")
    made = sorted(path.name for path in rpms.glob("*.noarch.rpm"))
    assert len(made) == 4
    for name in made:
        assert (rpms / name).read_bytes() == (again / name).read_bytes(), name


def test_rpmlint_has_nothing_to_say(rpms: Path) -> None:
    need("rpmlint")
    argv = ["rpmlint", "--rpmlintrc", str(RPM / "podman-cvmfs.rpmlintrc")]
    argv += map(str, (*rpms.glob("*.rpm"), RPM / "podman-cvmfs.spec"))
    done = subprocess.run(argv, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if re.search(r": [EW]: ", line)]
    # It depends on its version which filters have something to do, and which names it knows.
    names = r": E: (unused-rpmlintrc-filter |spelling-error \('(buildah|skopeo|systemd)')"
    assert [line for line in said if not re.search(names, line)] == [], done.stderr
    assert "5 packages and 1 specfiles checked" in done.stdout


def test_the_spec_parses_for_each_distribution() -> None:
    need("rpmspec")
    for name, release, by_macro in (("fedora", 42, True), ("rhel", 10, True), ("rhel", 9, False)):
        argv = ["rpmspec", "--parse", f"--load={RPM}/macros.elsewhere"]
        argv += ["--define", f"{name} {release}", str(RPM / "podman-cvmfs.spec")]
        parsed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert ("pyproject_wheel" in parsed) is by_macro
        assert ("hatchling build" in parsed) is not by_macro


class RpmMachine(CleanMachine):
    """A clean release on which rpm, run from outside, installs packages."""

    def rpm(self, *args: str | Path) -> str:
        """Run rpm; what it and the scriptlets say. Debian's packages aren't in rpm's books."""
        # Debian's rpm keeps its books in the caller's home, unless told otherwise.
        argv = ["rpm", f"--root={self.outside('/')}", "--dbpath=/var/lib/rpm", *args]
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0 and "scriptlet failed" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def images(self) -> str:
        """What podman lists; any failure of podman's is one of the test."""
        return self.sh("podman images --quiet")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RpmMachine]:
    machine = RpmMachine(RPM_SUITE, root_of(RPM_SUITE), tmp_path)
    try:
        machine.rpm("--initdb")
        yield machine
    finally:
        machine.close()


def found(directory: Path, *names: str) -> list[Path]:
    """The packages of these names in a directory."""
    paths = [
        path for name in names for path in directory.glob(f"{name}-{__version__}-*.noarch.rpm")
    ]
    assert len(paths) == len(names)
    return paths


MAIN, DROP_IN, MOUNT, SELINUX = (
    f"podman-cvmfs{suffix}" for suffix in ("", "-storage-conf", "-mount", "-selinux")
)


def test_installed_upgraded_erased(
    machine: RpmMachine, checkout: Path, rpms: Path, tmp_path: Path
) -> None:
    before = machine.sh("find /etc/containers -type f")
    machine.rpm("--install", "--nodeps", *found(rpms, MAIN, DROP_IN, MOUNT))
    assert machine.sh("podman-cvmfs --version").split()[-1] == __version__
    machine.sh(f"test -s {STORE}/overlay-layers/layers.lock; test -d /cvmfs")
    dropped = machine.sh("cat /usr/share/containers/storage.rootful.conf.d/99-podman-cvmfs.conf")
    assert f'"{STORE}"' in dropped
    assert machine.rpm("--verify", "--nodeps", MAIN, DROP_IN, MOUNT) == ""
    for unit in ("podman-cvmfs-sync.timer", "podman-cvmfs-watch.service"):
        assert machine.sh(f"systemctl is-enabled {unit} || true") == "disabled\n"

    machine.sh("podman-cvmfs setup")
    assert machine.images() == ""
    machine.sh(
        "touch /var/cache/podman-cvmfs/kept; echo 'offline = true' >> /etc/podman-cvmfs/config.toml"
        "; systemctl enable podman-cvmfs-sync.timer"
    )
    store = machine.sh(f"find {STORE} -printf '%P %i %s %T@ %l\\n' | sort")
    # A later release of the same version.
    later = build("build-rpm.sh", checkout, tmp_path / "later", "--define", "dist .later")
    machine.rpm("--upgrade", "--nodeps", *found(later, MAIN, DROP_IN, MOUNT))
    assert machine.rpm("--query", "--queryformat=%{release}", MAIN) == "1.later"
    assert machine.sh(f"find {STORE} -printf '%P %i %s %T@ %l\\n' | sort") == store
    assert machine.images() == ""
    machine.sh("test -e /etc/containers/storage.conf; test -e /var/cache/podman-cvmfs/kept")
    assert "offline = true" in machine.outside("/etc/podman-cvmfs/config.toml").read_text()
    assert machine.sh("systemctl is-enabled podman-cvmfs-sync.timer") == "enabled\n"

    machine.rpm("--erase", MAIN, DROP_IN, MOUNT)
    assert machine.sh("find /etc/containers -type f") == before
    assert machine.images() == ""
    machine.sh(f"test -d {STORE}; test ! -e /usr/bin/podman-cvmfs")


def test_the_stores_are_labelled_for_containers(machine: RpmMachine, rpms: Path) -> None:
    contexts = "matchpathcon -f /etc/selinux/default/contexts/files/file_contexts"
    places = [STORE, f"{STORE}/overlay/x/diff", "/home/u/.local/share/podman-cvmfs/store/pool"]

    def types(*paths: str) -> list[str]:
        lines = machine.sh(f"{contexts} {' '.join(paths)}").splitlines()
        return [line.split()[1].split(":")[2] for line in lines]

    usual = types(*places)
    machine.rpm("--install", "--nodeps", *found(rpms, SELINUX))
    assert types(*places) == ["container_ro_file_t"] * 3
    assert types("/var/lib/podman-cvmfs/setup.json") == ["var_lib_t"]
    machine.rpm("--erase", SELINUX)
    assert types(*places) == usual
    assert "container_ro_file_t" not in usual
