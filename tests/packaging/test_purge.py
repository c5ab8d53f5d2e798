# SPDX-License-Identifier: Apache-2.0
"""What purging the package reads: users have put anything where it looks. The script's own lines
run, in a mount namespace with other users."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import CHECKOUT

_SCRIPT = CHECKOUT / "packaging/debian/podman-cvmfs.postrm"
_STORE = "/var/lib/podman-cvmfs/store"
_USERS = ("fifo", "zero", "large", "link to a FIFO", "named", "drop-in", "esc")

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def homes() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="purge-") as path:
        for name in _USERS:
            (Path(path) / name / ".config/containers/storage.conf.d").mkdir(parents=True)
        yield Path(path)


def _naming(homes: Path) -> subprocess.CompletedProcess[str]:
    """Run the script's search, with these homes."""
    passwd = homes / "passwd"
    lines = [
        f"u{n}:x:{3000 + n}:{3000 + n}::{homes / name}:/bin/sh" for n, name in enumerate(_USERS)
    ]
    passwd.write_text("\n".join(lines) + "\n")
    search = _SCRIPT.read_text().partition("# Where something is mounted")[0]
    # Sessions of this machine are none of the test's.
    script = f"mount --bind {passwd} /etc/passwd; mount -t tmpfs tmpfs /proc\n{search}\nnaming"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        encoding="utf-8",
        timeout=100,
    )


def test_whatever_users_have_put_there_purging_ends(homes: Path) -> None:
    names = f'additionalimagestores = ["{_STORE}"]\n'
    conf = {name: homes / name / ".config/containers/storage.conf" for name in _USERS}
    os.mkfifo(conf["fifo"])
    conf["zero"].symlink_to("/dev/zero")
    with conf["large"].open("wb") as file:
        file.truncate(1 << 40)
    conf["link to a FIFO"].symlink_to(conf["fifo"])
    conf["named"].write_text(names)
    in_directory = conf["drop-in"].parent / "storage.conf.d/a b.conf"
    in_directory.write_text(names)
    (conf["esc"].parent / "storage.conf.d/\\033.conf").write_text(names)
    started = time.monotonic()
    done = _naming(homes)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30
    found = [line for line in done.stdout.splitlines() if line.startswith(str(homes))]
    assert found[:2] == [str(conf["named"]), str(in_directory)]
    assert len(found) == 3 and "\033" not in done.stdout


def test_what_never_answers_costs_a_warning(homes: Path) -> None:
    """As on a file system that hangs: a head that never ends stands for it."""
    conf = homes / "named/.config/containers/storage.conf"
    conf.write_text("x")
    binaries = homes / "bin"
    binaries.mkdir()
    (binaries / "head").write_text("#!/bin/sh\nexec sleep 1000\n")
    (binaries / "head").chmod(0o755)
    before = dict(os.environ)
    os.environ["PATH"] = f"{binaries}:{before['PATH']}"
    try:
        done = _naming(homes)
    finally:
        os.environ.update(before)
    assert done.returncode == 0
    assert f"can't tell whether {conf} names {_STORE}" in done.stderr
