# SPDX-License-Identifier: Apache-2.0
"""The policy: how images are shown, and what pulls may reuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from urllib.parse import quote, unquote

#: The number of the layout that this version writes.
LAYOUT = "7"
#: Layouts 5 and 6 have the same form, with fewer local directories and files. The number has gone
#: up so that a sync lays every store out anew.
_SAME_FORM = ("5", "6", LAYOUT)
#: The last layout without pieces. This version can still read it.
_WITHOUT_PIECES = "4"
#: Further words of a policy as a store remembers it.
_SHARED, _EXACT, _MOUNTS, _REUSE_FROM = "shared", "exact", "mounts=", "reuse-from="


class View(str, Enum):
    """How an image's files are shown: by its merged root, by its layers, exactly by file lists of
    its layers, or as fits best."""

    AUTO = "auto"
    FLAT = "flat"
    LAYERS = "layers"
    EXACT = "exact"


class Reuse(str, Enum):
    """Which layers a pull of another image may take from the store: base layers, all layers that
    can be read back exactly, or no layers."""

    BASE = "base"
    ALL = "all"
    NONE = "none"


class Overlay(str, Enum):
    """The program that mounts the layers: the kernel, or fuse-overlayfs, which understands ``.wh.``
    markers."""

    KERNEL = "kernel"
    FUSE = "fuse-overlayfs"


@dataclass(frozen=True)
class Policy:
    """All choices together."""

    view: View = View.AUTO
    reuse: Reuse = Reuse.BASE
    overlay: Overlay = Overlay.KERNEL
    #: Whether other users than the writer can read the store. In a shared store only the writer can
    #: write in the directories, whatever modes an image has.
    shared: bool = False
    #: The mount points that every container gets.
    mounts: tuple[str, ...] = ()
    #: The repositories whose layers other images may use, in order of preference. None means a
    #: single repository, which counts.
    reuse_from: tuple[str, ...] | None = None
    #: The number of the layout. It increases when layers are laid out differently.
    layout: str = LAYOUT
    #: Whether podman here can be given the exact view.
    exact: bool = False

    def of(self, repository: str) -> Policy:
        """The policy for images of ``repository``: pulls find its layers only if ``reuse_from``
        names it."""
        if self.reuse_from is None or repository in self.reuse_from:
            return self
        return replace(self, reuse=Reuse.NONE)

    def __str__(self) -> str:
        """The text that a store records."""
        return f"{self.layout} {self.choices}"

    @property
    def choices(self) -> str:
        """The text without the number of the layout, which is not a choice."""
        words = [self.view.value, self.reuse.value, self.overlay.value]
        words += [_SHARED] if self.shared else []
        words += [_EXACT] if self.exact else []
        # In order and quoted, so that equal policies give equal texts without blanks.
        words += [_MOUNTS + ",".join(map(quote, sorted(set(self.mounts))))] if self.mounts else []
        if self.reuse_from is not None:
            words.append(_REUSE_FROM + ",".join(map(quote, self.reuse_from)))
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> Policy | None:
        """The policy, of this version or an earlier one, that a store records as ``text``; None for
        any other text, such as the "" of an empty store."""
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
                exact=_EXACT in others,
                mounts=_listed(others, _MOUNTS) or (),
                reuse_from=_listed(others, _REUSE_FROM),
                layout=layout,
            )
        except ValueError:
            return None
        return policy if str(policy) == text else None

    @property
    def is_written(self) -> bool:
        """Whether the layout has the form that this version writes."""
        return self.layout in _SAME_FORM

    @property
    def has_pieces(self) -> bool:
        """Whether layers mount pieces."""
        return self.layout != _WITHOUT_PIECES


def _listed(words: Sequence[str], key: str) -> tuple[str, ...] | None:
    """The paths in the word that begins with ``key``; None without such a word."""
    for word in words:
        if word.startswith(key):
            listed = word[len(key) :]
            return tuple(map(unquote, listed.split(","))) if listed else ()
    return None


DEFAULT_POLICY = Policy()


class Change(Enum):
    """How a change of policy affects a layer that is already in a store."""

    NONE = "none"
    OFFERED = "offered"  # the layer is the same, but the store shows, or pulls find, other layers
    LAID_OUT = "laid out"  # its directories would now be different

    @classmethod
    def between(cls, old: str, new: str) -> Change:
        """The change between two policies as stores record them; "" is that of an empty store."""
        if old == new:
            return cls.NONE
        was, becomes = Policy.parse(old), Policy.parse(new)
        if was is None or becomes is None:
            return cls.LAID_OUT
        # The view and the reuse settings only decide which layers are shown and found.
        same = becomes == replace(
            was,
            view=becomes.view,
            exact=becomes.exact,
            reuse=becomes.reuse,
            reuse_from=becomes.reuse_from,
        )
        return cls.OFFERED if same else cls.LAID_OUT
