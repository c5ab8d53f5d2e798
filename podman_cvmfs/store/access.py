# SPDX-License-Identifier: Apache-2.0
"""Who may read and change a store: its writer alone, or, where it is shared, all may read it. All
functions raise OSError."""

from __future__ import annotations

import os
import stat

from podman_cvmfs.store import layout
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.strangers import Stranger, clean_pool, lock_away


def keep_others_out(store: str, shared: bool, seize: bool) -> list[Stranger]:
    """Let nobody but the writer change the store at the path ``store``; unless it is ``shared``,
    nor read it.

    If others could reach it until now, what they have put into it is removed; returns that. With
    ``seize`` no local directory stays theirs: for stores of layout 4, where it might.
    """
    was_open = stat.S_IMODE(os.stat(store).st_mode) & 0o077
    if not shared and was_open:
        os.chmod(store, layout.CLOSED)
    return clean_pool(f"{store}/{layout.POOL_LAYERS}", seize) if was_open else []


def share(store: str, content: StoreContent, *, anew: bool) -> None:
    """Let all users read the store at the path ``store``, which holds ``content``. If it is shared
    ``anew``, some of what is retired was meant for the writer alone; that stays closed."""
    if anew:
        pool = f"{store}/{layout.POOL_LAYERS}"
        used = {
            entry
            for layer in content.layers.values()
            if layer.retired is None
            for entry in (layer.entry, *map(layout.piece_entry, layer.lowers or ()))
        }
        for entry in used.intersection(lock_away(pool)):
            os.chmod(f"{pool}/{entry}", 0o755)
    os.chmod(store, layout.OPEN)
