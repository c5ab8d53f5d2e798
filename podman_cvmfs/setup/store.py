# SPDX-License-Identifier: Apache-2.0
"""The store has to be there before podman is told of it: else every podman command fails."""

from __future__ import annotations

import os

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.store.store import Store

#: What podman needs of an additional image store.
NEEDED = (
    "overlay",
    "overlay-images/images.json",
    "overlay-images/images.lock",
    "overlay-layers/layers.json",
    "overlay-layers/layers.lock",
)


def lacking(path: str) -> tuple[str, ...]:
    """What podman needs of a store, ours or another, and doesn't find at ``path``."""
    return tuple(name for name in NEEDED if not os.path.exists(f"{path}/{name}"))


def is_store(path: str) -> bool:
    """Whether there is a store at ``path``, ours or another. Raises StoreError where that can't be
    told."""
    try:
        for name in NEEDED:
            os.stat(f"{path}/{name}")
    except FileNotFoundError:
        return False
    except OSError as err:
        raise StoreError(f"can't read the store {printable(path)}: {err.strerror}") from err
    return True


def ensure_store(path: str) -> bool:
    """Make an empty valid store at ``path`` unless there is one; True if it was made.

    Raises InputError for a path that podman can't use, StoreError where it can't be read or
    written.
    """
    store = Store(path)
    if is_store(store.path):
        return False
    with store.opened() as content:
        store.replace(content, (), ())
    return True
