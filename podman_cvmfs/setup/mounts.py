# SPDX-License-Identifier: Apache-2.0
"""/cvmfs inside every container, by ``volumes`` in a drop-in of containers.conf."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import tomlkit

from podman_cvmfs.errors import InputError, printable

#: Bound read-only; later mounts of the host (autofs) show up inside, mounts of the container don't
#: show up outside.
_OPTIONS = "ro,rslave"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")

_HEADER = """\
# Shows CernVM-FS to every container; what the host mounts there later (autofs) included.
# 'podman-cvmfs setup --mount-cvmfs' makes this file, 'podman-cvmfs setup --undo' removes it.
"""
_REPLACES = """\
# This podman doesn't append to arrays: these are all volumes of the files read before this one.
"""


def volumes_for(repositories: Sequence[str], root: str = "/cvmfs") -> list[str]:
    """The ``volumes`` entries for single repositories, or for all of /cvmfs.

    Raises InputError for a bad name and for a missing repository: podman would then refuse to start
    any container.
    """
    paths = []
    for name in repositories:
        name = name[len(root) + 1 :] if name.startswith(f"{root}/") else name
        if not _NAME.fullmatch(name):
            raise InputError(f"not the name of a repository: {printable(name)!r}")
        paths.append(f"{root}/{name}")
    for path in paths or [root]:
        # Looking into the directory has autofs mount it.
        if not os.path.isdir(f"{path}/."):
            raise InputError(
                f"{path} is missing, and podman would start no container without it",
                "mount it first, or name other repositories with --mount-cvmfs=REPO,...",
            )
    return [f"{path}:{path}:{_OPTIONS}" for path in paths or [root]]


def destination(volume: str) -> str:
    """Where in the container an entry of ``volumes`` shows."""
    parts = volume.split(":")
    return os.path.normpath(parts[1] if len(parts) > 1 else parts[0])


def drop_in(volumes: Sequence[str], others: Sequence[str] | None) -> bytes:
    """The drop-in. ``others``: volumes of the other files, to repeat them for a podman that
    replaces arrays; None for one that appends."""
    array = tomlkit.array()
    for volume in [*(others or ()), *volumes]:
        array.append(volume)
    if others is None:
        attribute = tomlkit.inline_table()
        attribute["append"] = True
        array.append(attribute)
    array.multiline(True)
    document = tomlkit.document()
    document["containers"] = {"volumes": array}
    header = _HEADER if others is None else _HEADER + _REPLACES
    return (header + tomlkit.dumps(document)).encode()
