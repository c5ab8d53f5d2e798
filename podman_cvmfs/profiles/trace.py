# SPDX-License-Identifier: Apache-2.0
"""Reads the trace of CernVM-FS's client: which paths of a repository were opened.

Format (CernVM-FS 2.12, ``cvmfs/tracer.cc`` and ``tracer.h``): CSV with four quoted fields in each
line, a time stamp, a number for what happened, the path from the repository's root, a message. 1 is
an open. The client writes it with ``CVMFS_TRACEFILE`` and ``CVMFS_TRACEBUFFER`` set.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.profiles.shown import ShownImage

_OPEN = "1"
_FIELDS = 4


def read_trace(path: str, repository: str, shown: ShownImage) -> list[str]:
    """The files of the image that a trace of the client at ``repository`` names, in the order of
    first use, as paths in the image. Raises InputError if it can't be read, or is no trace."""
    root = os.path.realpath(repository)
    roots = [each[len(root) :] + "/" for each in shown.roots if each.startswith(f"{root}/")]
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(dict.fromkeys(_in_image(_opened(file, path), roots)))
    except OSError as err:
        raise InputError(f"can't read {printable(path)}: {err.strerror}") from None


def _opened(lines: Iterable[str], path: str) -> Iterator[str]:
    try:
        for fields in csv.reader(lines):
            if len(fields) != _FIELDS:
                raise InputError(f"{printable(path)} is no trace of CernVM-FS's client")
            if fields[1] == _OPEN:
                yield fields[2]
    except csv.Error as err:
        raise InputError(f"{printable(path)} is no trace of CernVM-FS's client: {err}") from None


def _in_image(paths: Iterable[str], roots: list[str]) -> Iterator[str]:
    for path in paths:
        for root in roots:
            if path.startswith(root):
                yield path[len(root) :]
                break
