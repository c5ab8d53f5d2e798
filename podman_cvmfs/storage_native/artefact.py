# SPDX-License-Identifier: Apache-2.0
"""Find the shared library or program built from containers/storage.

Looked for, in this order: what PODMAN_CVMFS_NATIVE_LIBRARY names (a file, or a directory with
either), the directory of this package, the system's library directory. PODMAN_CVMFS_NATIVE says
whether to use it: ``auto`` (where there is one; the default), ``require``, ``off``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.storage_native.errors import Unavailable

#: What the artefacts and this package agree on; go/main.go has the same number.
ABI = 1

MODE_VARIABLE = "PODMAN_CVMFS_NATIVE"
PATH_VARIABLE = "PODMAN_CVMFS_NATIVE_LIBRARY"

PACKAGE_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
SYSTEM_DIRECTORY = "/usr/lib/podman-cvmfs"


class Mode(Enum):
    """Whether the real library is used and built."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


class Kind(Enum):
    """The two artefacts, by file name. The library is loaded by a Python of its own."""

    LIBRARY = "libpodman_cvmfs_storage.so"
    PROGRAM = "podman-cvmfs-storage"


@dataclass(frozen=True)
class Artefact:
    """One of the two, and the file it is in (an absolute path)."""

    kind: Kind
    path: str


def mode() -> Mode:
    """What PODMAN_CVMFS_NATIVE says. Raises InputError."""
    text = os.environ.get(MODE_VARIABLE) or Mode.AUTO.value
    try:
        return Mode(text)
    except ValueError:
        raise InputError(
            f"{MODE_VARIABLE} is {printable(text)!r}", "set it to auto, require or off"
        ) from None


def locate(kind: Kind | None = None) -> Artefact:
    """The artefact to use: the first of ``kind``; with None the first of any, the library before
    the program. Raises Unavailable with where it was looked for.
    """
    if mode() is Mode.OFF:
        raise Unavailable(f"the containers/storage library is switched off by {MODE_VARIABLE}")
    kinds = list(Kind) if kind is None else [kind]
    places = list(_places())
    for place in places:
        if os.path.isfile(place):
            found = Kind.LIBRARY if place.endswith(".so") else Kind.PROGRAM
            if found in kinds:
                return Artefact(found, place)
        for each in kinds:
            path = os.path.join(place, each.value)
            if os.path.isfile(path):
                return Artefact(each, path)
    names = " or ".join(each.value for each in kinds)
    raise Unavailable(
        f"no {names} in {', '.join(map(printable, places))}",
        "install podman-cvmfs-native, or build it: python3 -m podman_cvmfs.storage_native.build",
    )


def find(kind: Kind | None = None) -> Artefact | None:
    """The same, or None where there is none and PODMAN_CVMFS_NATIVE doesn't require one."""
    try:
        return locate(kind)
    except Unavailable:
        if mode() is Mode.REQUIRE:
            raise
        return None


def _places() -> Iterator[str]:
    named = os.environ.get(PATH_VARIABLE)
    if named:
        # Who names one wants that one: another is not a substitute.
        yield os.path.abspath(named)
        return
    yield PACKAGE_DIRECTORY
    yield SYSTEM_DIRECTORY
