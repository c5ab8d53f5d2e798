# SPDX-License-Identifier: Apache-2.0
"""Which podman this is, without running it; and whether CRI-O is here as well."""

from __future__ import annotations

import os

#: Where CRI-O's configuration is.
CRIO_FILES = "/etc/crio"


def has_crio(directory: str = CRIO_FILES) -> bool:
    """Whether CRI-O, or its configuration, is on this machine."""
    return os.path.isdir(directory) or identity("crio") != ""


def identity(program: str = "podman") -> str:
    """The identity of a ``program`` in PATH; "" if it isn't there."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, program)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            found = os.stat(path)
            return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    return ""
