# SPDX-License-Identifier: Apache-2.0
"""The remarks of a sync about who can read the store."""

from __future__ import annotations

import os

from podman_cvmfs.errors import printable
from podman_cvmfs.settings.files import COMMAND_LINE, Settings, file_that_sets
from podman_cvmfs.settings.sharing import files_naming, reads_drop_ins


def remarks(settings: Settings) -> list[str]:
    """The remarks if other users can read the store for longer or shorter than the settings say."""
    store, is_root = settings.store, os.geteuid() == 0
    if settings.shared is False and is_root:
        named = files_naming(store, lambda: reads_drop_ins(settings.cache))
        if named:
            files = printable(" and ".join(named))
            kept = f"{printable(store)} stays open to other users, because {files} names it to them"
            return [f"{kept}: 'podman-cvmfs setup --no-users' takes it from them"]
    if settings.shared and settings.source("shared") == COMMAND_LINE:
        if is_root and files_naming(store, lambda: reads_drop_ins(settings.cache)):
            return []
        ways = f"shared = true in {file_that_sets(settings, 'view')} keeps it open"
        if is_root:
            ways = f"'podman-cvmfs setup --users', or {ways}"
        return [f"the next sync without --shared closes {printable(store)} to other users; {ways}"]
    return []
