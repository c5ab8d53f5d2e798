# SPDX-License-Identifier: Apache-2.0
"""A private mount namespace, so that nothing a test mounts or hides is seen by the host.

A holder process owns the namespace and waits on a pipe: when the tests end, however they end,
the pipe closes, the holder exits and the kernel takes every mount with it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Places that podman and its runtimes use whatever their configuration says: the blob-info
#: cache, the lock segment, the system's own configuration, state. Each is an empty tmpfs inside.
_HIDDEN = (
    "/var/lib/containers",
    "/etc/containers",
    "/dev/shm",
    "/run/containers",
    "/run/libpod",
    "/run/crun",
    "/run/runc",
)

_HOLD = "set -e; {mounts} echo ready; exec cat >&2"
#: The tree that systemd and others mount for hybrid cgroups is what crun refuses.
_CGROUP2 = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup;"


class NamespaceError(RuntimeError):
    """The namespace can't be made here; the text says why."""


class Namespace:
    """A mount namespace held open by a process; ``close`` it to drop all its mounts."""

    def __init__(self, *, cgroup2: bool = False) -> None:
        mounts = "".join(
            f"mkdir -p {path}; mount -t tmpfs -o mode=0755 tmpfs {path};" for path in _HIDDEN
        )
        mounts += _CGROUP2 if cgroup2 else ""
        setup = _HOLD.format(mounts=mounts)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", setup],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            reason = self._holder.stderr.read().decode(errors="replace").strip()
            self.close()
            raise NamespaceError(f"no private mount namespace: {reason}")

    @property
    def pid(self) -> int:
        """The holder's process ID."""
        return self._holder.pid

    def command(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        """Return the command line that runs ``argv`` inside, in the directory ``/``."""
        # --root: the namespace alone would lead out of a chroot that the tests run in.
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--root", "--wd", "--"]
        return [*enter, *(os.fspath(word) for word in argv)]

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return its text; CommandError carries its stderr."""
        options = {"timeout": 300, "stdin": subprocess.DEVNULL, **options}
        done = subprocess.run(
            self.command(argv),
            env=env,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            **options,
        )
        if check and done.returncode:
            raise CommandError([os.fspath(word) for word in argv], done)
        return done

    def outside(self, path: str | os.PathLike[str]) -> Path:
        """Where the tests find a path of the inside, mounts included."""
        return Path(f"/proc/{self.pid}/root{os.fspath(path)}")

    def mount_tmpfs(self, path: Path, *, size: str, inodes: int) -> None:
        """Mount a small tmpfs at ``path`` (made if missing); ``size`` as mount(8) takes it."""
        path.mkdir(parents=True, exist_ok=True)
        self.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "tmpfs", path])

    def close(self) -> None:
        """End the holder; the namespace goes once nothing else runs in it."""
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if stream is not None:
                stream.close()
        try:
            self._holder.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()


class CommandError(AssertionError):
    """A command that should have worked didn't; shows its exit status and stderr."""

    def __init__(self, argv: list[str], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{argv} gave {done.returncode}: {done.stderr.strip() or done.stdout}")
        self.done = done
