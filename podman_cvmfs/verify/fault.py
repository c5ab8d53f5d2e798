# SPDX-License-Identifier: Apache-2.0
"""A fault of a store, as a frozen dataclass. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """An error makes podman fail or show something wrong, now or later; a warning doesn't."""

    ERROR = "error"
    WARNING = "warning"


class Kind(str, Enum):
    """The kind of a fault. The values never change: scripts may test for them."""

    #: There is no store at that path, or an empty one.
    NO_STORE = "no-store"
    #: Something differs from what a sync has written.
    DAMAGED = "damaged"
    #: A file or directory of somebody else. podman ignores it.
    FOREIGN = "foreign"
    #: A file of another user that containers show.
    PLANTED = "planted"
    #: Something left by a killed sync.
    LEFTOVER = "leftover"
    #: An earlier version has laid out the store.
    FORMER_LAYOUT = "former-layout"
    #: The files of a layer are not in their repository.
    FILES_GONE = "files-gone"
    #: Only podman doesn't see the files of layers.
    FILES_UNSEEN = "files-unseen"
    #: A merged root lacks files that the image's layers have.
    LOST_FILES = "lost-files"
    #: Something couldn't be examined.
    UNCHECKED = "unchecked"
    #: A user's image or container shows one layer as its whole root.
    CUT_OFF = "cut-off"
    #: The containers/storage library complains.
    NATIVE = "native"


@dataclass(frozen=True)
class Fault:
    """One fault. The texts can be printed as they are."""

    severity: Severity
    kind: Kind
    #: The absolute path of the faulty thing.
    path: str
    #: The fault: the end of a sentence that begins with the path.
    what: str
    #: The cure.
    cure: str


#: The cure for things that are not ours.
REMOVE = "remove it, or move it away"
