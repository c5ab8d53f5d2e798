# SPDX-License-Identifier: Apache-2.0
"""What layers show on top of one another, by their file lists. Pure: no I/O.

The rules are overlayfs' (Linux ``Documentation/filesystems/overlayfs.rst``): a whiteout deletes its
path from below, an opaque directory hides the content of those below, and other directories of the
same path are one.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import Any

from podman_cvmfs.lists.entry import Entry

#: Name -> the same of a directory, or the type of another file.
_Shown = dict[str, Any]


def lacking(layers: Iterable[Iterable[Entry]], merged: Iterable[Entry]) -> Iterator[str]:
    """The paths that ``layers``, base first, show together and ``merged`` doesn't have, or has with
    another type; of a directory that is missing only itself."""
    shown: _Shown = {}
    for layer in layers:
        _put_above(shown, layer)
    there: _Shown = {}
    _put_above(there, merged)
    pending = [("", shown, there)]
    while pending:
        above, wanted, found = pending.pop()
        for name, what in wanted.items():
            path = f"{above}/{name}" if above else name
            seen = found.get(name)
            if isinstance(what, dict) and isinstance(seen, dict):
                pending.append((path, what, seen))
            elif isinstance(what, dict) or what != seen:
                yield path


def _put_above(shown: _Shown, layer: Iterable[Entry]) -> None:
    """Put the files of a layer above ``shown``."""
    for entry in layer:
        if not entry.path:
            continue
        *above, name = entry.path.split("/")
        directory = shown
        for each in above:
            below = directory.get(each)
            # The list has each directory before its content.
            directory = below if isinstance(below, dict) else directory.setdefault(each, {})
        if entry.is_whiteout:
            directory.pop(name, None)
        elif not entry.is_directory:
            directory[name] = stat.S_IFMT(entry.mode)
        elif entry.is_opaque or not isinstance(directory.get(name), dict):
            directory[name] = {}
