# SPDX-License-Identifier: Apache-2.0
"""Everything in a directory tree, to tell whether anything has changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return path -> (mode, inode, content) of everything below ``root``.

    The content of a link is its target, of a file its bytes, of a device its number, of a
    directory nothing.
    """
    found = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            attributes = os.lstat(path)
            if stat.S_ISLNK(attributes.st_mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(attributes.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            else:
                content = str(attributes.st_rdev).encode()
            found[os.path.relpath(path, root)] = (attributes.st_mode, attributes.st_ino, content)
    return found
