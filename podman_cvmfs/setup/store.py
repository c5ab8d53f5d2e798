# SPDX-License-Identifier: Apache-2.0
"""Makes the store before podman's configuration names it, and opens it to the right users. Without
that every podman command fails."""

from __future__ import annotations

import os

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.settings.sharing import is_open
from podman_cvmfs.store.layout import CLOSED, OPEN
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.store import Store

#: The directories and files that podman needs in an additional image store.
NEEDED = (
    "overlay",
    "overlay-images/images.json",
    "overlay-images/images.lock",
    "overlay-layers/layers.json",
    "overlay-layers/layers.lock",
)


def lacking(path: str) -> tuple[str, ...]:
    """The missing parts of the store at ``path``, ours or another, that podman needs."""
    return tuple(name for name in NEEDED if not os.path.exists(f"{path}/{name}"))


def is_store(path: str) -> bool:
    """Whether there is a store at ``path``, ours or another. Raises StoreError if that can't be
    read."""
    try:
        for name in NEEDED:
            os.stat(f"{path}/{name}")
    except FileNotFoundError:
        return False
    except OSError as err:
        raise StoreError(f"can't read the store {printable(path)}: {err.strerror}") from err
    return True


def ensure_store(path: str, shared: bool = False) -> bool:
    """Make an empty valid store at ``path`` unless there is one; True if it was made.

    Only its owner can read it unless it is ``shared``. Raises InputError for a path that podman
    can't use, StoreError if the store can't be read or written.
    """
    store = Store(path)
    if is_store(store.path):
        return False
    with store.opened() as content:
        store.replace(content, (), ())
        os.chmod(store.path, OPEN if shared else CLOSED)
    return True


def can_be_opened(path: str) -> bool:
    """Whether the store at ``path`` must be opened before configuration names it to other users.

    True for an empty closed store, False for an open one. Raises StoreError for a closed store with
    images: only a sync can open it.
    """
    if is_open(path):
        return False
    content = read_store(path)
    if content is not None and not content.images and not content.layers:
        return True
    raise StoreError(
        f"the store {printable(path)} is closed to other users: their podman would fail if it were "
        "named to them",
        f"run '{on_store(path, 'sync', '--shared')}' first to open it, or use --no-users",
    )


def open_store(path: str) -> None:
    """Let other users into the store at ``path``. Raises StoreError."""
    try:
        os.chmod(path, OPEN)
    except OSError as err:
        raise StoreError(f"can't open the store {printable(path)}: {err.strerror}") from err
