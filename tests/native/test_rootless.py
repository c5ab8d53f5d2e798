# SPDX-License-Identifier: Apache-2.0
"""An ordinary user asks the library, under podman unshare."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.storage_native import Kind
from tests.support.namespace import Namespace
from tests.support.native import CHECKOUT
from tests.support.podman import Host

_UID = 54321
_PLACE = "/mnt"

_ADD_USER = f"""
set -e
mount -t tmpfs -o mode=0755 tmpfs {_PLACE}
cd {_PLACE}
mkdir etc package native store home run tmp
for file in passwd group subuid subgid; do
    [ ! -e /etc/$file ] || cp /etc/$file etc/
done
echo "judge:x:{_UID}:{_UID}::{_PLACE}/home:/bin/sh" >> etc/passwd
echo "judge:x:{_UID}:" >> etc/group
for file in subuid subgid; do echo "judge:600000:65536" >> etc/$file; done
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || touch /etc/$file
    mount --bind etc/$file /etc/$file
done
chown {_UID}:{_UID} home run tmp
chmod 0700 run
# podman's locks.
chmod 1777 /dev/shm
"""


@pytest.fixture(scope="module")
def user(podman_host: Host, built: Path, sample_store: Path) -> Iterator[Namespace]:
    """A mount namespace with an ordinary user, who can read what is below ``_PLACE``."""
    namespace = Namespace(cgroup2=podman_host.cgroup2)
    namespace.run(["sh", "-c", _ADD_USER])
    for source, target in ((CHECKOUT, "package"), (built, "native"), (sample_store, "store")):
        namespace.run(["mount", "--bind", source, f"{_PLACE}/{target}"])
    yield namespace
    namespace.close()


def _ask(user: Namespace, kind: Kind, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        "HOME": f"{_PLACE}/home",
        "XDG_RUNTIME_DIR": f"{_PLACE}/run",
        "TMPDIR": f"{_PLACE}/tmp",
        "PYTHONPATH": f"{_PLACE}/package",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PODMAN_CVMFS_NATIVE_LIBRARY": f"{_PLACE}/native/{kind.value}",
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    become = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", "env", "-i"]
    python = ["/usr/bin/python3", "-m", "podman_cvmfs.storage_native"]
    return user.run([*become, *words, *python, *args], check=False)


@pytest.mark.parametrize("kind", list(Kind))
def test_judging_a_store(user: Namespace, kind: Kind) -> None:
    done = _ask(user, kind, "judge", f"{_PLACE}/store")
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)[f"{_PLACE}/store"]
    assert (len(report["images"]), report["errors"]) == (3, [])
    assert os.listdir(user.outside(f"{_PLACE}/tmp")) == []


@pytest.mark.parametrize("kind", list(Kind))
def test_the_configuration_is_the_users_own(user: Namespace, kind: Kind) -> None:
    done = _ask(user, kind, "config")
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    assert config["graph_root"] == f"{_PLACE}/home/.local/share/containers/storage"
    assert config["run_root"] == f"{_PLACE}/run/containers"


def test_without_podman_it_says_so(user: Namespace, built: Path) -> None:
    hidden = ["sh", "-c", f'PATH={_PLACE}/package exec "$0" "$@"']
    become = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups"]
    python = ["/usr/bin/python3", "-m", "podman_cvmfs.storage_native", "judge", "/"]
    variables = [
        "env",
        f"PYTHONPATH={_PLACE}/package",
        f"PODMAN_CVMFS_NATIVE_LIBRARY={_PLACE}/native",
        "PYTHONDONTWRITEBYTECODE=1",
        "TMPDIR=" + f"{_PLACE}/tmp",
    ]
    done = user.run([*become, *variables, *hidden, *python], check=False)
    assert done.returncode == 1
    assert "podman is not installed" in done.stderr
