# SPDX-License-Identifier: Apache-2.0
"""The systemd units, as systemd itself judges them, and a sync with no more than they allow."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import need
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.images import IMAGES, build, write_layout

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
UNITS = PACKAGING / "systemd"
SERVICES = ("podman-cvmfs-sync.service", "podman-cvmfs-watch.service")

#: systemd's own word for a service at or below this: OK.
_MOST_EXPOSURE = 4.0


@pytest.fixture(autouse=True)
def systemd() -> None:
    """Its tools judge units without a running systemd."""
    need("systemd-analyze", "systemd-tmpfiles")


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def _analyze(*args: str | Path, runtime: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "LC_ALL": "C.UTF-8"},
    )


@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_has_nothing_to_say(kind: str, tmp_path: Path) -> None:
    # Verified is also that the program is there, which is for the packages' own tests.
    program = shutil.which("true")
    copies = []
    for unit in sorted((UNITS / kind).iterdir()):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("=podman-cvmfs ", f"={program} "))
        copies.append(copy)
    assert len(copies) == {"system": 4, "user": 3}[kind]
    done = _analyze("verify", f"--{kind}", "--man=no", *copies, runtime=tmp_path)
    # It looks at what the units need as well.
    said = [line for line in done.stderr.splitlines() if "podman-cvmfs" in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str, tmp_path: Path) -> None:
    done = _analyze("security", "--offline=true", UNITS / "system" / name, runtime=tmp_path)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found.group(1)) <= _MOST_EXPOSURE


def test_the_two_services_differ_in_how_they_run_only() -> None:
    once, watch = (dict(_read(UNITS / "system" / name)["Service"]) for name in SERVICES)
    differing = {key for key in {*once, *watch} if once.get(key) != watch.get(key)}
    run = {"Type", "ExecStart", "SuccessExitStatus", "TimeoutStartSec", "Restart", "RestartSec"}
    assert differing == run


def test_nothing_is_switched_on_by_itself() -> None:
    installed = {
        unit.name for unit in UNITS.glob("*/podman-cvmfs-*") if "Install" in _read(unit).sections()
    }
    presets = (UNITS / "preset/90-podman-cvmfs.preset").read_text().splitlines()
    assert {line for line in presets if not line.startswith("#")} == {
        f"disable {name}" for name in installed
    }


@pytest.mark.usefixtures("as_root")
def test_a_sync_works_with_the_capabilities_of_the_service(tmp_path: Path) -> None:
    for image in IMAGES:
        if image.name in ("t/app:1", "t/delete:1", "t/opaque:1"):
            layout = tmp_path / f"layout-{image.name.replace('/', '-')}"
            write_layout([build(image)], layout)
            name = f"registry.example.org/{image.name}"
            succeed("publish", layout, "--name", name, "--repository", tmp_path / "repo")
    target = Target(tmp_path / "repo", tmp_path / "store", tmp_path / "cache")
    kept = _read(UNITS / "system" / SERVICES[0])["Service"]["CapabilityBoundingSet"].split()
    # A CernVM-FS shows directories that belong to others and that only they may read.
    for each in (tmp_path / "repo" / ".layers").rglob("root"):
        os.chown(each, 999, 995)
    bounds = ",".join(["-all", *(f"+{name[len('CAP_') :].lower()}" for name in kept)])
    confined = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", "--no-new-privs", "--"]
    done = podman_cvmfs(*target.argv("--offline", "--view", "layers"), prefix=confined)
    assert done.returncode == 0, done.stderr
    parts = [path for path in (target.store / "pool").rglob("*") if not path.is_symlink()]
    assert any(stat.S_ISCHR(path.lstat().st_mode) for path in parts)
    assert any("trusted.overlay.opaque" in os.listxattr(path) for path in parts if path.is_dir())


@pytest.mark.usefixtures("as_root")
def test_tmpfiles_make_the_directories_and_keep_what_is_there(tmp_path: Path) -> None:
    conf = PACKAGING / "tmpfiles.d/podman-cvmfs.conf"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    argv = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", "--clean", str(conf)]
    subprocess.run(argv, check=True)
    for name in ("var/lib/podman-cvmfs", "var/cache/podman-cvmfs"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o755
    kept = tmp_path / "var/lib/podman-cvmfs/setup.json"
    kept.write_text("{}")
    os.utime(kept, (0, 0))
    subprocess.run(argv, check=True)
    assert kept.exists()
