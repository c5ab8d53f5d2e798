# SPDX-License-Identifier: Apache-2.0
"""What is in the packages: Debian's have the same files as the RPMs, and settings are kept."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

#: Of one kind only: documentation by each kind's rules, judgements and the metadata of Python.
_OWN = re.compile(r"/usr/share/(doc|licenses|lintian)/|/podman_cvmfs-[\d.]+\.dist-info/")
#: Each kind's place for zsh, and the drop-ins: those of Debian a maintainer script makes links to.
_DEBIAN = {
    "/usr/share/podman-cvmfs/mount-appending.conf",
    "/usr/share/podman-cvmfs/mount-replacing.conf",
    "/usr/share/zsh/vendor-completions/_podman-cvmfs",
}
_RPM = {
    "/etc/containers/containers.conf.d/50-podman-cvmfs-mount.conf",
    "/usr/share/containers/storage.rootful.conf.d/99-podman-cvmfs.conf",
    "/usr/share/zsh/site-functions/_podman-cvmfs",
}
SETTINGS = "/etc/podman-cvmfs/config.toml"


def _output(*argv: str | Path) -> list[str]:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def _comparable(paths: list[str]) -> set[str]:
    """Files without those of one kind; not compressed, and with /lib in /usr."""
    kept = {re.sub(r"^/lib/", "/usr/lib/", path.removesuffix(".gz")) for path in paths}
    return {path for path in kept if not _OWN.search(path)}


def test_both_kinds_have_the_same_files(debs: Path, rpms: Path) -> None:
    debian: list[str] = []
    for deb in debs.glob("*_all.deb"):
        lines = _output("dpkg-deb", "--contents", deb)
        debian += [line.split(maxsplit=5)[5][1:] for line in lines if line[0] != "d"]
    rpm: list[str] = []
    for package in rpms.glob("*.noarch.rpm"):
        form = "--queryformat=[%{FILEMODES:perms} %{FILENAMES}\n]"
        lines = _output("rpm", "--query", "--package", form, package)
        rpm += [line.split(maxsplit=1)[1] for line in lines if line[0] != "d"]
    assert _comparable(debian) - _DEBIAN == _comparable(rpm) - _RPM
    assert _comparable(debian) >= {*_DEBIAN, "/usr/bin/podman-cvmfs", SETTINGS}
    assert _comparable(rpm) >= _RPM


def test_settings_are_configuration_files(debs: Path, rpms: Path) -> None:
    (deb,) = debs.glob("podman-cvmfs_*.deb")
    assert _output("dpkg-deb", "--info", deb, "conffiles") == [SETTINGS]
    (rpm,) = rpms.glob("podman-cvmfs-[0-9]*.noarch.rpm")
    assert _output("rpm", "--query", "--package", "--configfiles", rpm) == [SETTINGS]
