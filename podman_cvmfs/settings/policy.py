# SPDX-License-Identifier: Apache-2.0
"""The choices an administrator has in how images are shown and what pulls may reuse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from urllib.parse import quote

#: The number of the layout that this version writes.
LAYOUT = "5"
#: Further words of a policy as a store remembers it.
SHARED, MOUNTS, REUSE_FROM = "shared", "mounts=", "reuse-from="


class View(str, Enum):
    """How an image's files are shown: by its merged root, by its layers, or as fits best."""

    AUTO = "auto"
    FLAT = "flat"
    LAYERS = "layers"


class Reuse(str, Enum):
    """Which layers a pull of another image may take from the store: the base layers, all that can
    be given back exactly, or none."""

    BASE = "base"
    ALL = "all"
    NONE = "none"


class Overlay(str, Enum):
    """What mounts the layers: the kernel, or fuse-overlayfs, which knows ``.wh.`` markers."""

    KERNEL = "kernel"
    FUSE = "fuse-overlayfs"


@dataclass(frozen=True)
class Policy:
    """All choices together.

    ``shared``: other users than the writer may read the store. Then no directory in it can be
    written by anybody else, whatever modes an image has. ``mounts`` are the mount points that
    every container gets. ``reuse_from`` are the repositories whose layers other images may use, in
    order of preference. None stands for the only repository that there is.
    """

    view: View = View.AUTO
    reuse: Reuse = Reuse.BASE
    overlay: Overlay = Overlay.KERNEL
    shared: bool = False
    mounts: tuple[str, ...] = ()
    reuse_from: tuple[str, ...] | None = None

    def of(self, repository: str) -> Policy:
        """The policy for images of ``repository``: pulls find none of its layers if nobody has
        said that they may."""
        if self.reuse_from is None or repository in self.reuse_from:
            return self
        return replace(self, reuse=Reuse.NONE)

    def __str__(self) -> str:
        """What a store remembers of it. The number goes up when layers are laid out otherwise."""
        words = [LAYOUT, self.view.value, self.reuse.value, self.overlay.value]
        words += [SHARED] if self.shared else []
        # In order and quoted, so that equal policies give equal texts without blanks.
        words += [MOUNTS + ",".join(map(quote, sorted(set(self.mounts))))] if self.mounts else []
        if self.reuse_from is not None:
            words.append(REUSE_FROM + ",".join(map(quote, self.reuse_from)))
        return " ".join(words)


DEFAULT_POLICY = Policy()


class Change(Enum):
    """What a change of policy does to a layer that is in a store already."""

    NONE = "none"
    OFFERED = "offered"  # it is what it was, but other layers are shown, or found by pulls
    LAID_OUT = "laid out"  # its directories would be others by now

    @classmethod
    def between(cls, old: str, new: str) -> Change:
        """What lies between two policies as stores remember them; of an empty store that is ""."""
        if old == new:
            return cls.NONE
        # The view and what is reused only decide which layers are shown and found.
        was, becomes = old.split(), new.split()
        same = was[:1] + was[3:] == becomes[:1] + becomes[3:]
        return cls.OFFERED if same else cls.LAID_OUT
