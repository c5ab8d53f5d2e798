# SPDX-License-Identifier: Apache-2.0
"""Steps on a clean machine with the Debian packages, and the state of the machine after them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from podman_cvmfs import __version__
from tests.packaging.machine import CleanMachine

IMAGE = "registry.example.org/t/delete:1"
PRINTS = "changed\n"
STORE = "/var/lib/podman-cvmfs/store"
NAMING = f'[storage.options]\nadditionalimagestores = ["{STORE}"]\n'
#: What a machine without a service manager, and perhaps with low limits, needs to run containers.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def older(packages: Path) -> None:
    """Make the package of an earlier version, in ``earlier`` beside the others."""
    (package,) = packages.glob("podman-cvmfs_*.deb")
    tree = packages / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert f"\nVersion: {__version__}\n" in text
    control.write_text(text.replace(f"\nVersion: {__version__}\n", "\nVersion: 0.0.1\n"))
    (packages / "earlier").mkdir()
    argv = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(packages / "earlier")]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def install(machine: CleanMachine, package: str) -> str:
    """Install one of the packages, as apt does it; all they need is there."""
    apt = "apt-get install --yes --no-install-recommends"
    return machine.sh(f"{apt} {machine.data}/{package}_*.deb")


def version(machine: CleanMachine) -> str:
    """The version of the package that is installed."""
    return machine.sh("dpkg-query --show --showformat '${Version}' podman-cvmfs")


def configuration(machine: CleanMachine) -> dict[str, bytes | None]:
    """All that configures podman: path -> content, None for directories."""
    found: dict[str, bytes | None] = {}
    for top in ("/etc/containers", "/usr/share/containers", "/etc/profile.d", "/etc/systemd/user*"):
        outside = machine.outside("/")
        for path in outside.glob(top.lstrip("/")):
            for each in (path, *path.rglob("*")):
                found[str(each.relative_to(outside))] = (
                    each.read_bytes() if each.is_file() else None
                )
    return found


def contents(machine: CleanMachine, top: str) -> str:
    """All below a directory, with what an exchange or a rewrite would change."""
    return machine.sh(f"find {top} -printf '%P %i %s %T@ %l\\n' | sort")


def images(machine: CleanMachine) -> list[str]:
    """The names that podman lists."""
    script = "podman images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
    return machine.sh(script).split()


def as_user(machine: CleanMachine, script: str) -> str:
    """Run a shell script as an ordinary user after a login; its output. The user has no subordinate
    IDs, for what maps them is not among what podman depends on."""
    machine.sh(
        "grep -q ^u: /etc/passwd || echo u:x:4242:4242::/var/u:/bin/sh >> /etc/passwd;"
        "grep -q ^u: /etc/group || echo u:x:4242: >> /etc/group;"
        f"install -d -o 4242 -g 4242 -m 0700 /var/u /run/user-u; chmod 0755 {machine.data}"
    )
    login = "env -i XDG_RUNTIME_DIR=/run/user-u HOME=/var/u PATH=$PATH LC_ALL=C.UTF-8 setpriv"
    login += " --reuid=4242 --regid=4242 --clear-groups sh -l -ec"
    return machine.sh(f"{login} {shlex.quote(script)}")


def in_container(machine: CleanMachine, command: str) -> str:
    """What a program of busybox prints in a container that has nothing else."""
    root = machine.data / "root"
    if not root.exists():
        for name in ("bin", "dev", "proc", "sys", "run", "tmp", "etc"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
    return machine.sh(f"podman run --rm --rootfs {root} /bin/busybox {command}")
