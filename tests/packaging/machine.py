# SPDX-License-Identifier: Apache-2.0
"""Clean Debian releases to install the packages in: roots made once, changes kept in memory."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.namespace import Namespace, NamespaceError
from tests.support.roots import bootstrap, default_directory

SUITES = ("bookworm", "trixie", "sid")
#: Where RPMs are installed: the first with a policy that knows container images.
RPM_SUITE = "trixie"

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
_SELINUX = ("selinux-policy-default", "policycoreutils", "selinux-utils")
#: The file in a root that says with what it was made.
_LISTED = ".included"

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


def present(suite: str) -> Path | None:
    """The root of a release if it is there and has what it is to have by now."""
    root = default_directory() / f"packaging-{suite}"
    try:
        return root if (root / _LISTED).read_text().split() == list(_included(suite)) else None
    except FileNotFoundError:
        return None


def make(suite: str) -> Path:
    """The root of a release with podman and what podman-cvmfs depends on; made if it is missing,
    which takes about half a minute. Raises RootError."""
    root = default_directory() / f"packaging-{suite}"
    if present(suite) is None:
        shutil.rmtree(root, ignore_errors=True)
        bootstrap(root, suite, "apt", _included(suite))
        (root / _LISTED).write_text("\n".join(_included(suite)))
    return root


def _included(suite: str) -> tuple[str, ...]:
    return (*_PACKAGES, *DEPENDS, *(_SELINUX if suite == RPM_SUITE else ()))


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


def main() -> None:
    """Make the roots of all releases, side by side."""
    with ThreadPoolExecutor(len(SUITES)) as pool:
        for root in pool.map(make, SUITES):
            print(root)


if __name__ == "__main__":
    main()
