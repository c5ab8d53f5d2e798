# SPDX-License-Identifier: Apache-2.0
"""Whether podman uses a store with its present configuration, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from podman_cvmfs.errors import printable
from podman_cvmfs.podman.storage_conf.effective import Effective, names_store

_BUILT_IN = "podman's built-in settings"


class Unused(Enum):
    """Why podman doesn't look into a store."""

    REPLACED = auto()
    INHERITED = auto()
    UNNAMED = auto()


def why_unused(store: str, effective: Effective, dropped: Sequence[str] = ()) -> Unused | None:
    """Why podman with this configuration doesn't look into ``store``; None if it does.

    ``dropped`` are the stores that the environment takes away: see ``as_replaced``.
    """
    if names_store(effective.stores, store):
        return None
    return Unused.REPLACED if names_store(dropped, store) else why_unnamed(effective)


def why_unnamed(effective: Effective) -> Unused:
    """Why this configuration lacks a store, if the environment takes none away."""
    return Unused.INHERITED if effective.inherited else Unused.UNNAMED


def in_words(why: Unused, store: str, effective: Effective) -> str:
    """``why`` as a sentence; ``store`` is what to call the store in it."""
    if why is Unused.REPLACED:
        return "STORAGE_OPTS replaces storage.conf"
    if why is Unused.INHERITED:
        return "this podman doesn't use the stores of the system's storage.conf for ordinary users"
    return f"{store} isn't named in {printable(effective.main or _BUILT_IN)}"
