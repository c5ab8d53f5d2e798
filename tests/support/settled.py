# SPDX-License-Identifier: Apache-2.0
"""A repository in which nothing happens, and syncs of it by the command."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.support.cli import Target, podman_cvmfs


def age(root: Path) -> None:
    """Make all files and directories a minute older."""
    old = time.time() - 60
    for directory, _, files in os.walk(root):
        for name in ("", *files):
            os.utime(os.path.join(directory, name), (old, old), follow_symlinks=False)


def target_of(tmp_path: Path, repository: Path) -> Target:
    """Where syncs of the repository write."""
    return Target(repository, tmp_path / "store", tmp_path / "cache")


def sync_json(target: Target, *args: str) -> dict[str, object]:
    """Sync by the command, which must work; return its report."""
    done = podman_cvmfs(*target.argv("--offline", "--format", "json", *args))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def is_skipped(target: Target, *args: str) -> bool:
    """Whether the next sync is over after one check."""
    done = podman_cvmfs(*target.argv("--offline", *args))
    assert done.returncode == 0, done.stderr
    return "nothing has changed" in done.stderr
