# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a store, as a frozen dataclass. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """An error makes podman fail or show something wrong, now or later; a warning doesn't."""

    ERROR = "error"
    WARNING = "warning"


class Kind(str, Enum):
    """What sort of fault it is. The values are for good: scripts may look for them."""

    #: There is no store at that path, or an empty one.
    NO_STORE = "no-store"
    #: Something isn't as a sync has written it.
    DAMAGED = "damaged"
    #: Somebody's file or directory in our place; podman doesn't care.
    FOREIGN = "foreign"
    #: A file of another user that containers show.
    PLANTED = "planted"
    #: What a killed sync has left.
    LEFTOVER = "leftover"
    #: An earlier version has laid out the store.
    FORMER_LAYOUT = "former-layout"
    #: The files of a layer are not in their repository.
    FILES_GONE = "files-gone"
    #: Only podman doesn't see the files of layers.
    FILES_UNSEEN = "files-unseen"
    #: Something couldn't be examined.
    UNCHECKED = "unchecked"
    #: A user's image or container shows one layer as its whole root.
    CUT_OFF = "cut-off"
    #: The containers/storage library complains.
    NATIVE = "native"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. The texts are fit to be printed."""

    severity: Severity
    kind: Kind
    #: With what: an absolute path.
    path: str
    #: How it is wrong: the end of a sentence that begins with the path.
    what: str
    #: What to do about it.
    cure: str


#: For what is no work of ours, and may be somebody's.
REMOVE = "remove it, or move it away"
