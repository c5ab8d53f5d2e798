# SPDX-License-Identifier: Apache-2.0
"""A machine in a mount namespace: this one or another Debian's root, with an ordinary user.

The root file system is pivoted to, not entered by chroot: the kernel lets no process that is in a
chroot make a user namespace, which rootless podman needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.namespace import Namespace, NamespaceError


@dataclass(frozen=True)
class User:
    """An ordinary user, with ``subids`` subordinate IDs from ``first_subid`` on (0: none)."""

    name: str
    uid: int
    first_subid: int = 0
    subids: int = 0


#: The large range holds the largest owner that the test images have.
USER = User("pcvuser", 23456, 10_000_000, 5_000_000)
#: Its only ID in a user namespace is its own.
LONELY = User("pcvlonely", 23457)
#: Root's containers get their IDs from this name's with ``--userns=auto``.
POOL = User("containers", 23458, 20_000_000, 1_000_000)
#: What a default CernVM-FS client shows as the owner of every file.
FOREIGN = (999, 995)

#: Each is an empty directory in the namespace, whatever the machine has there.
_HIDDEN = ("/run", "/var/lib/containers", "/etc/containers")

_SETUP = r"""
set -e
W=$1 ROOT=$2 DATA=$3; shift 3
mount -t tmpfs -o mode=0755 tmpfs "$W"; mkdir "$W/u" "$W/w" "$W/m"; M=$W/m
if [ "$ROOT" = / ]; then
    mount --rbind / "$M"
    mount -t overlay -o "lowerdir=/etc,upperdir=$W/u,workdir=$W/w" overlay "$M/etc"
else
    mount -t overlay -o "lowerdir=$ROOT,upperdir=$W/u,workdir=$W/w" overlay "$M"
    mount -t proc proc "$M/proc"; mount --rbind /sys "$M/sys"; mount --rbind /dev "$M/dev"
    for each in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$M$each"; done
    mkdir -p "$M$DATA"; mount --rbind "$DATA" "$M$DATA"
    cp -L /etc/resolv.conf /etc/hosts "$M/etc/" 2>/dev/null || true
fi
umount -R "$M/sys/fs/cgroup" 2>/dev/null || true
mount -t cgroup2 none "$M/sys/fs/cgroup"
mount -t tmpfs -o mode=1777 tmpfs "$M/dev/shm"
mknod -m 0666 "$W/fuse" c 10 229; mount --bind "$W/fuse" "$M/dev/fuse"
for each in HIDDEN; do mkdir -p "$M$each"; mount -t tmpfs -o mode=0755 tmpfs "$M$each"; done
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > "$M/etc/containers/policy.json"
while [ $# -gt 0 ]; do
    echo "$1:x:$2:$2::$DATA:/bin/sh" >> "$M/etc/passwd"; echo "$1:x:$2:" >> "$M/etc/group"
    [ "$4" = 0 ] || for each in subuid subgid; do echo "$1:$3:$4" >> "$M/etc/$each"; done
    mkdir -p "$M/run/user/$2"; chown "$2:$2" "$M/run/user/$2"; chmod 0700 "$M/run/user/$2"
    shift 4
done
cd "$M"; pivot_root . mnt; umount -l /mnt; cd /
echo ready; exec cat >&2
"""


class Machine(Namespace):
    """A Debian whose root file system is ``root`` (``/``: the machine the tests run on).

    ``data`` is a directory that the machine sees at the same path; the machine's own changes are
    kept in memory and lost at the end.
    """

    def __init__(self, root: Path, data: Path) -> None:
        scratch = data / f"machine-{os.urandom(4).hex()}"
        scratch.mkdir()
        users = [
            str(word)
            for user in (USER, LONELY, POOL)
            for word in (user.name, user.uid, user.first_subid, user.subids)
        ]
        script = _SETUP.replace("HIDDEN", " ".join(_HIDDEN))
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        self.root = root
        self.data = data
        self._holder = subprocess.Popen(
            [*command, str(scratch), str(root), str(data), *users],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            reason = self._holder.stderr.read().decode(errors="replace").strip()
            self.close()
            raise NamespaceError(f"no machine at {root}: {reason}")

    def as_user(self, user: User | None, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        """The command line that runs ``argv`` inside as ``user``, as root for None."""
        words = [os.fspath(word) for word in argv]
        if user is None:
            return words
        ids = [f"--reuid={user.uid}", f"--regid={user.uid}", "--clear-groups", "--inh-caps=-all"]
        return ["setpriv", *ids, "--", *words]

    def run_as(
        self,
        user: User | None,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str],
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as ``user``; see ``Namespace.run``."""
        return self.run(self.as_user(user, argv), env=env, check=check, **options)


def interpreter(machine: Machine) -> list[str]:
    """Make this Python with its packages and this checkout usable by every user of a machine, and
    return the command and environment (``env A=B python``) that starts it there.

    The checkout and its virtual environment may lie below a directory that only root may enter;
    so they are mounted where everybody may.
    """
    base, code = Path(sys.base_prefix), Path(__file__).resolve().parents[2]
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    mounted = []
    for number, place in enumerate([str(base), str(code), *packages]):
        target = f"/run/python/{number}"
        machine.run(["mkdir", "-p", target])
        machine.run(["mount", "--bind", place, target])
        mounted.append(target)
    python = Path(os.path.realpath(sys.executable)).relative_to(base)
    home, *path = mounted
    variables = [f"PYTHONHOME={home}", f"PYTHONPATH={':'.join(path)}", "PYTHONDONTWRITEBYTECODE=1"]
    return ["env", *variables, f"{home}/{python}"]
