# SPDX-License-Identifier: Apache-2.0
"""Clean Debian releases to install the packages in: roots made once, changes kept in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.matrix.roots import RootError, default_directory, mirror
from tests.support.namespace import Namespace, NamespaceError

SUITES = ("bookworm", "trixie", "sid")

#: podman, what it runs containers with, and what judges the units.
_PACKAGES = ("podman", "crun", "ca-certificates", "mount", "systemd")
#: What podman-cvmfs depends on: here already, so that nothing is fetched later.
DEPENDS = (
    "init-system-helpers",
    "python3",
    "python3-click",
    "python3-requests",
    "python3-rich",
    "python3-tomlkit",
    "python3-yaml",
    "python3-zstandard",
)
_MINUTES = 30

_SETUP = r"""
set -e
M=$2/m; mount -t tmpfs tmpfs "$2"; mkdir "$2/u" "$2/w" "$M"
mount -t overlay -o "lowerdir=$1,upperdir=$2/u,workdir=$2/w" overlay "$M"
mount -t proc proc "$M/proc"; mount --rbind /sys "$M/sys"; mount --rbind /dev "$M/dev"
umount -R "$M/sys/fs/cgroup" 2>/dev/null || true
mount -t cgroup2 none "$M/sys/fs/cgroup"
for each in run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$M/$each"; done
# Neither whiteouts can be made on an overlay, nor containers.
mount -t tmpfs -o mode=0755 tmpfs "$M/var"; cp -a "$1/var/." "$M/var/"
mkdir -p "$M$3"; mount --rbind "$3" "$M$3"
# Nothing starts services here.
printf '#!/bin/sh\nexit 101\n' > "$M/usr/sbin/policy-rc.d"; chmod 0755 "$M/usr/sbin/policy-rc.d"
cd "$M"; pivot_root . mnt; umount -l /mnt; cd /
echo ready; exec cat >&2
"""


def make_root(suite: str) -> Path:
    """The root of a release with podman and what podman-cvmfs depends on; made if it is missing,
    which takes one or two minutes. Raises RootError."""
    root = default_directory() / f"packaging-{suite}"
    if root.exists():
        return root
    if shutil.which("mmdebstrap") is None:
        raise RootError("mmdebstrap is not installed")
    unfinished = root.with_name(f".{root.name}.unfinished")
    root.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    done = subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=apt",
            f"--include={','.join((*_PACKAGES, *DEPENDS))}",
            # sid's Release file is often past its date on a mirror; signatures are checked.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
            suite,
            str(unfinished),
            mirror(),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_MINUTES * 60,
    )
    if done.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise RootError(f"mmdebstrap can't make {suite}: {done.stderr.strip()[-1000:]}")
    os.rename(unfinished, root)
    return root


class CleanMachine(Namespace):
    """A release in its ``root``, which isn't changed. ``data`` is there at the same path."""

    def __init__(self, suite: str, root: Path, data: Path) -> None:
        scratch = data / "machine"
        scratch.mkdir()
        self.data = data
        self.suite = suite
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SETUP, "sh"]
            + [str(root), str(scratch), str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            reason = self._holder.stderr.read().decode(errors="replace").strip()
            self.close()
            raise NamespaceError(f"no machine at {root}: {reason}")

    def sh(self, script: str, *, check: bool = True, **variables: str) -> str:
        """Run a shell script as root, with nothing of this process's environment; its output."""
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **variables,
        }
        options: dict[str, Any] = {"env": env, "check": check}
        done = self.run(["sh", "-ec", script], **options)
        return done.stdout + done.stderr
