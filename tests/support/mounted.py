# SPDX-License-Identifier: Apache-2.0
"""A repository mounted as by CernVM-FS's client, by a process beside the test; see passthrough."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.support import passthrough
from tests.support.passthrough import Options
from tests.support.passthrough_cache import State

_SECONDS = 20
_MOUNTS = "/proc/self/mountinfo"


class MountError(RuntimeError):
    """The file system can't be mounted here, or not be unmounted; the text says why."""


class Mounted:
    """The directory ``repository``, shown at ``mountpoint`` by a process of its own.

    ``place`` is a directory for what the client keeps: its cache, which is ``cache`` in it, is cold
    with each new Mounted. ``options`` are those of ``Options`` that aren't by default.
    """

    def __init__(self, repository: Path, mountpoint: Path, place: Path, **options: Any) -> None:
        self.mountpoint = mountpoint
        self.cache = place / f"cache-{os.urandom(4).hex()}"
        self.cache.mkdir(parents=True)
        mountpoint.mkdir(exist_ok=True)
        self._control = self.cache.with_suffix(".json")
        self._log = self.cache.with_suffix(".log")
        self.tell()
        served = Options(str(repository), str(self.cache), str(self._control), **options)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                passthrough.command(str(mountpoint), served),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _SECONDS
        while not is_mounted(mountpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise MountError(f"no FUSE mount at {mountpoint}: {self._log.read_text()}")
            time.sleep(0.01)

    def tell(self, **state: Any) -> None:
        """Change what ``State`` says; what isn't given is as by default."""
        written = self._control.with_suffix(".new")
        written.write_text(json.dumps(asdict(State(**state))))
        written.rename(self._control)

    def fetched(self) -> int:
        """How many objects are in the client's cache."""
        return sum(len(files) for _, _, files in os.walk(self.cache))

    def counts(self) -> dict[str, int]:
        """How often what was asked for since the mount: "file" and "catalogue" of the server; of
        the file system "lookup", "readdir", "open", "read", "readlink", "getxattr", "listxattr".
        The kernel answers many more by itself."""
        found: dict[str, int] = json.loads(os.getxattr(self.mountpoint, passthrough.COUNTS))
        return found

    def requests(self) -> int:
        """How many requests the server got since the mount."""
        counts = self.counts()
        return counts.get("file", 0) + counts.get("catalogue", 0)

    def die(self, *, unmounts: bool = True) -> None:
        """End the client's process as a crash does. What is mounted answers nothing but ENOTCONN.
        Another process of the client unmounts it, so that only who uses it still meets that
        (client 2.12, ``auto_umount.cc``, after 2 seconds); without ``unmounts`` it has died, too.
        """
        self._process.kill()
        self._process.wait(_SECONDS)
        if unmounts:
            subprocess.run(["umount", "--lazy", self.mountpoint], timeout=_SECONDS, check=True)

    def abort(self) -> bool:
        """End every request with an error, as an administrator does: ``umount -f``. It unmounts as
        well unless the file system is in use; whether it is unmounted is returned."""
        done = subprocess.run(
            ["umount", "-f", self.mountpoint], stderr=subprocess.DEVNULL, timeout=_SECONDS
        )
        return done.returncode == 0

    def close(self) -> None:
        """Abort and unmount, also where somebody uses it, and wait for the process."""
        if is_mounted(self.mountpoint) and not self.abort():
            subprocess.run(["umount", "--lazy", self.mountpoint], timeout=_SECONDS, check=True)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise MountError(f"process {self._process.pid} doesn't end") from None


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at ``path``; asks the kernel, not the file system."""
    with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
        return any(line.split()[4] == str(path) for line in mounts)


@contextlib.contextmanager
def mounted(repository: Path, mountpoint: Path, place: Path, **options: Any) -> Iterator[Mounted]:
    """A Mounted (same arguments) that is closed at the end."""
    client = Mounted(repository, mountpoint, place, **options)
    try:
        yield client
    finally:
        client.close()
