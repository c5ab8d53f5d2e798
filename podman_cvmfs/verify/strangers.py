# SPDX-License-Identifier: Apache-2.0
"""Find files that other users have put into the local directories of a store.

Containers show it, so whoever can write there decides what root's containers run.
"""

from __future__ import annotations

import stat

from podman_cvmfs.errors import printable
from podman_cvmfs.settings.advice import on_store, repair_of
from podman_cvmfs.store import layout
from podman_cvmfs.store.strangers import find_strangers
from podman_cvmfs.verify.fault import Kind
from podman_cvmfs.verify.inspection import Inspection

#: A sync that runs meanwhile removes entries of the pool.
_ATTEMPTS = 3


def note_stranger(look: Inspection, relative: str, uid: int) -> None:
    """Note the file or whiteout at ``relative``, which belongs to the user ``uid`` (ID)."""
    cure = repair_of(look.store)
    if _is_open(look):
        cure = f"{on_store(look.store, 'sync')}, or {cure}"
    what = f"is a file of user {uid} that no sync has put there: containers show it"
    look.error(relative, what, cure, Kind.PLANTED)


def check_strangers(look: Inspection) -> None:
    """Note each file of strangers in the pool that has no finding yet. Nothing else reads entries
    of layout 4 and retired entries."""
    known = {finding.path for finding in look.findings}
    for _ in range(_ATTEMPTS):
        try:
            found = find_strangers(look.path(layout.POOL_LAYERS), look.owner or 0)
        except FileNotFoundError:
            continue
        except OSError as err:
            look.unread(layout.POOL_LAYERS, err)
            return
        for each in found:
            if printable(each.path) not in known:
                note_stranger(look, each.path, each.uid)
        return


def _is_open(look: Inspection) -> bool:
    """Whether others than its owner can reach the store. A sync looks for their files only in such
    a store."""
    top = look.attributes("", optional=True)
    return top is not None and bool(stat.S_IMODE(top.st_mode) & 0o077)
