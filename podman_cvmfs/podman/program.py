# SPDX-License-Identifier: Apache-2.0
"""Which podman this is, without running it."""

from __future__ import annotations

import os


def identity() -> str:
    """The identity of podman's program; "" if there is no podman."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, "podman")
        if os.access(path, os.X_OK):
            found = os.stat(path)
            return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    return ""
