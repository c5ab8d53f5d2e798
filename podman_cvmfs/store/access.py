# SPDX-License-Identifier: Apache-2.0
"""Sets who can read a store: only its writer, or, if it is shared, all users. All functions raise
OSError."""

from __future__ import annotations

import os
import stat

from podman_cvmfs.store import layout
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.strangers import Stranger, clean_pool, lock_away


def keep_others_out(store: str, shared: bool, seize: bool) -> list[Stranger]:
    """Let only the writer change the store at the path ``store``, and unless it is ``shared`` only
    the writer read it.

    If others could reach it until now, their files in it are removed; returns these. With ``seize``
    they lose all local directories: in layout 4 they may own some.
    """
    was_open = stat.S_IMODE(os.stat(store).st_mode) & 0o077
    if not shared and was_open:
        os.chmod(store, layout.CLOSED)
    return clean_pool(f"{store}/{layout.POOL_LAYERS}", seize) if was_open else []


def share(store: str, content: StoreContent, *, anew: bool) -> None:
    """Let all users read the store at the path ``store``, which holds ``content``. If it becomes
    shared now (``anew``), retired entries meant only for the writer stay closed."""
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
