# SPDX-License-Identifier: Apache-2.0
"""The choices an administrator has in how images are shown and what pulls may reuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from urllib.parse import quote, unquote

#: The number of the layout that this version writes.
LAYOUT = "6"
#: The layout before it had the same form. It goes up when other pieces shall be shown, too: then
#: each store gets them by its next sync.
_SAME_FORM = ("5", LAYOUT)
#: The last layout whose layers mounted no pieces; it can be read still.
_WITHOUT_PIECES = "4"
#: Further words of a policy as a store remembers it.
_SHARED, _MOUNTS, _REUSE_FROM = "shared", "mounts=", "reuse-from="


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
    """All choices together."""

    view: View = View.AUTO
    reuse: Reuse = Reuse.BASE
    overlay: Overlay = Overlay.KERNEL
    #: Whether other users than the writer may read the store. Then nobody else can write in any
    #: directory of it, whatever modes an image has.
    shared: bool = False
    #: The mount points that every container gets.
    mounts: tuple[str, ...] = ()
    #: The repositories whose layers other images may use, in order of preference. None stands for
    #: the only repository that there is.
    reuse_from: tuple[str, ...] | None = None
    #: The number of the layout. It goes up when layers are laid out otherwise.
    layout: str = LAYOUT

    def of(self, repository: str) -> Policy:
        """The policy for images of ``repository``: pulls find none of its layers if nobody has
        said that they may."""
        if self.reuse_from is None or repository in self.reuse_from:
            return self
        return replace(self, reuse=Reuse.NONE)

    def __str__(self) -> str:
        """What a store remembers of it."""
        return f"{self.layout} {self.choices}"

    @property
    def choices(self) -> str:
        """The same without the number of the layout, which nobody chooses."""
        words = [self.view.value, self.reuse.value, self.overlay.value]
        words += [_SHARED] if self.shared else []
        # In order and quoted, so that equal policies give equal texts without blanks.
        words += [_MOUNTS + ",".join(map(quote, sorted(set(self.mounts))))] if self.mounts else []
        if self.reuse_from is not None:
            words.append(_REUSE_FROM + ",".join(map(quote, self.reuse_from)))
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> Policy | None:
        """The policy, of this version or an earlier one, that a store remembers as ``text``; None
        for a text that no policy gives. That of an empty store is ""."""
        layout, *choices = text.split(" ")
        if len(choices) < 3:
            return None
        view, reuse, overlay, *others = choices
        try:
            policy = cls(
                View(view),
                Reuse(reuse),
                Overlay(overlay),
                shared=_SHARED in others,
                mounts=_listed(others, _MOUNTS) or (),
                reuse_from=_listed(others, _REUSE_FROM),
                layout=layout,
            )
        except ValueError:
            return None
        return policy if str(policy) == text else None

    @property
    def is_written(self) -> bool:
        """Whether this version writes stores of that form."""
        return self.layout in _SAME_FORM

    @property
    def has_pieces(self) -> bool:
        """Whether layers mount pieces."""
        return self.layout != _WITHOUT_PIECES


def _listed(words: Sequence[str], key: str) -> tuple[str, ...] | None:
    """The paths that the word which begins with ``key`` lists; None if there is no such word."""
    for word in words:
        if word.startswith(key):
            listed = word[len(key) :]
            return tuple(map(unquote, listed.split(","))) if listed else ()
    return None


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
        was, becomes = Policy.parse(old), Policy.parse(new)
        if was is None or becomes is None:
            return cls.LAID_OUT
        # The view and what is reused only decide which layers are shown and found.
        same = becomes == replace(
            was, view=becomes.view, reuse=becomes.reuse, reuse_from=becomes.reuse_from
        )
        return cls.OFFERED if same else cls.LAID_OUT
