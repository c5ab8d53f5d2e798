# SPDX-License-Identifier: Apache-2.0
"""Runs the command line as its users do: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.namespace import Namespace


def podman_cvmfs(
    *args: str | Path,
    within: Namespace | None = None,
    prefix: Sequence[str] = (),
    settings: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``podman-cvmfs ARGS`` and return what it said; no exit status is an error here.

    ``within`` is the mount namespace to run it in, ``prefix`` a command that starts it
    (``setpriv ...``), ``settings`` a file to read instead of the machine's. What is published is
    open to all users: tests run their containers from it.
    """
    if args[:1] == ("publish",):
        args = (*args, "--assume-nosuid")
    named = {} if settings is None else {"PODMAN_CVMFS_CONFIG": str(settings)}
    argv = [*prefix, sys.executable, "-m", "podman_cvmfs", *map(str, args)]
    return subprocess.run(
        argv if within is None else within.command(argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=300,
        env={**os.environ, "LC_ALL": "C.UTF-8", **named},
    )


def succeed(
    *args: str | Path, within: Namespace | None = None, settings: Path | None = None
) -> str:
    """Run ``podman-cvmfs ARGS``, which must work; return its standard output."""
    done = podman_cvmfs(*args, within=within, settings=settings)
    assert done.returncode == 0, f"podman-cvmfs {args} gave {done.returncode}:\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Target:
    """Where a sync reads and writes."""

    repository: Path
    store: Path
    cache: Path

    def argv(self, *args: str) -> list[str]:
        """The command line of ``podman-cvmfs`` that syncs."""
        places = {"repository": self.repository, "store": self.store, "cache": self.cache}
        options = [word for name, path in places.items() for word in (f"--{name}", str(path))]
        return ["sync", *options, *args]

    def sync(self, *args: str) -> str:
        """Sync, which must work; return the standard output."""
        return succeed(*self.argv(*args))
