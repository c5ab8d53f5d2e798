# SPDX-License-Identifier: Apache-2.0
"""Which directories kernel overlayfs has copied up from a repository for containers."""

from __future__ import annotations

import json
import os
from pathlib import Path

from podman_cvmfs.store import layout


def copied_up(graphroot: Path, store: Path, repository: Path, mountpoint: Path) -> list[str]:
    """Directories that containers in ``graphroot`` have copies of, made from ``repository``.

    ``store`` has one image and shows ``repository`` by paths below ``mountpoint``, which need not
    be mounted. What overlayfs copies is the directory of the topmost layer that has it.
    """
    (record,) = json.loads((store / layout.IMAGES / layout.IMAGES_JSON).read_text())
    top = store / layout.OVERLAY / record["layer"]
    below = (top / "lower").read_text().split(":") if (top / "lower").exists() else []
    shown = [top / "diff", *(store / layout.OVERLAY / link for link in below)]
    roots = [Path(os.path.realpath(each)) for each in shown]
    found = set()
    for upper in (graphroot / layout.OVERLAY).glob("*/diff"):
        for directory, _, _ in os.walk(upper):
            path = Path(directory).relative_to(upper)
            for root in roots:
                is_remote = root.is_relative_to(mountpoint)
                seen = repository / root.relative_to(mountpoint) if is_remote else root
                if (seen / path).is_dir():
                    if is_remote:
                        found.add(str(path))
                    break
    return sorted(found)
