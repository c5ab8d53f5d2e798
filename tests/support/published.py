# SPDX-License-Identifier: Apache-2.0
"""Two layers to publish, and the files that a publisher may leave by mistake."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.layers import Blob, Entry, directory, file, pack, whiteout

BASE = [directory("etc"), file("etc/passwd", "root\n"), file("gone", "x")]
TOP = [file("opt/app", "app", 0o755), whiteout("gone")]


def leftovers(repository: Path) -> list[str]:
    """Names of temporary files in a repository."""
    return [name for name in os.listdir(repository) if "tmp" in name]


def blob(entries: list[Entry], diff_id: str | None = None, data: bytes | None = None) -> Blob:
    """A layer blob in memory."""
    good = pack(entries)
    return Blob(data or good.data, diff_id or good.diff_id, "gzip")
