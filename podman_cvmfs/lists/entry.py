# SPDX-License-Identifier: Apache-2.0
"""One entry of a file list: a file, directory, link or device of a layer or an image.

A list holds an entry for each name, the root first. It is in *list order*: names in a directory are
sorted by their bytes, and a directory's entries follow it. So every directory comes before its
content, and the same name twice would be adjacent. Whiteouts and opaque directories stand as
overlayfs stores them (Linux ``Documentation/filesystems/overlayfs.rst``).
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

#: A directory with this attribute hides the directories of the same path in lower layers.
OPAQUE = "trusted.overlay.opaque"
#: overlayfs' own notes. No list has another one than ``OPAQUE``: they lead to other layers' files.
NOTES = "trusted.overlay."


class Entry(NamedTuple):
    """An entry of a list. It is immutable, and small: there are millions.

    All entries of a hard-link group carry the attributes of the inode.
    """

    #: From the root of the layer or image, as ``os.fsdecode`` gives it; "" is the root.
    path: str
    #: ``st_mode``: the type and the permission bits.
    mode: int
    uid: int = 0
    gid: int = 0
    #: In bytes; 0 for directories, the length of the target for symbolic links.
    size: int = 0
    #: In nanoseconds since 1970; may be negative.
    mtime_ns: int = 0
    #: The device number of a device file.
    rdev: int = 0
    #: The target of a symbolic link.
    target: str | None = None
    #: The path of the data of a regular file that isn't empty, from the layer's root.
    backing: str | None = None
    #: An earlier entry of the same list whose inode this is, by its path.
    hardlink: str | None = None
    #: Extended attributes, sorted by name.
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_whiteout(self) -> bool:
        """Whether it deletes its path from the layers below: a character device 0:0."""
        return stat.S_ISCHR(self.mode) and self.rdev == 0

    @property
    def is_opaque(self) -> bool:
        """Whether it hides the directories of its path in the layers below."""
        return (OPAQUE, b"y") in self.xattrs


def list_order(path: str) -> bytes:
    """The sort key that puts paths in list order."""
    # A null byte sorts before all bytes that names can have, "/" doesn't.
    return os.fsencode(path).replace(b"/", b"\0")
