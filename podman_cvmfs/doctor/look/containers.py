# SPDX-License-Identifier: Apache-2.0
"""Look for running containers whose root file system answers nothing any more."""

from __future__ import annotations

import os
from collections.abc import Sequence

from podman_cvmfs.errors import printable
from podman_cvmfs.podman.pause import pause_root
from podman_cvmfs.repository.served import NO_ANSWER, NO_CLIENT
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.usage.foreign_store import ForeignStore, name_of
from podman_cvmfs.util.probe import bounded_each

#: Where podman mounts a container's root, below its layer.
_MERGED = "merged"


def look_at_stuck(graphroot: str, seconds: float) -> tuple[str, ...]:
    """The names of this user's containers in ``graphroot`` whose root gives only errors: the
    program that serves their image has ended. ``seconds`` is how long to wait for each."""
    root = pause_root() or ""
    place = f"{os.path.realpath(graphroot)}/{OVERLAY}/"
    mounted = {
        path[len(place) : -len(_MERGED) - 1]: path
        for path in _mount_points(root)
        if path.startswith(place) and path.endswith(f"/{_MERGED}")
    }
    if not mounted:
        return ()
    names = {each.get("layer", ""): name_of(each) for each in ForeignStore(graphroot).containers()}
    paths = [f"{root}{path}" for path in mounted.values()]
    answers = bounded_each(_is_stuck, paths, seconds, seconds)
    return tuple(
        sorted(
            printable(names.get(layer, layer[:12]))
            for layer, stuck in zip(mounted, answers)
            if stuck
        )
    )


def _mount_points(root: str) -> Sequence[str]:
    """All mount points (proc_pid_mountinfo(5)) in the namespace of the process with ``root``."""
    place = root[: -len("/root")] if root else "/proc/self"
    try:
        with open(f"{place}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return [line.split()[4] for line in file]
    except OSError:
        return []


def _is_stuck(path: str) -> bool:
    try:
        os.listdir(path)
    except OSError as err:
        return err.errno in NO_ANSWER | NO_CLIENT
    return False
