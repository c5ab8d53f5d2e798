# SPDX-License-Identifier: Apache-2.0
"""What rootless podman sees, which may be less than its user sees.

podman starts a process that keeps the user's namespaces alive (podman 4 and 5,
``pkg/rootless``). Containers get the mounts that were there when it started, and later ones only
where the system's mounts are shared.
"""

from __future__ import annotations

import os

_PID_FILE = "libpod/tmp/pause.pid"
#: Ends that process; podman starts another one.
RESTART = "podman system migrate"


def pause_root() -> str | None:
    """A directory that shows what this user's podman sees; None for root, and where podman would
    see what this process sees."""
    uid = os.geteuid()
    if uid == 0:
        return None
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    try:
        with open(f"{run}/{_PID_FILE}", encoding="ascii") as file:
            root = f"/proc/{int(file.read(20))}/root"
        os.listdir(root)
    except (OSError, ValueError):
        return None
    return root


def is_hidden(directory: str, root: str | None) -> bool:
    """Whether this process sees ``directory``, and podman with the ``pause_root`` doesn't."""
    return root is not None and _can_list(directory) and not _can_list(root + directory)


def _can_list(directory: str) -> bool:
    """The kernel remembers the attributes of a directory whose client has crashed, so they tell
    nothing."""
    try:
        with os.scandir(directory):
            return True
    except OSError:
        return False
