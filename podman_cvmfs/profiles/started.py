# SPDX-License-Identifier: Apache-2.0
"""The image of a container that podman is about to start, and a lock for what is done once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from podman_cvmfs.store.layout import CURRENT, OVERLAY, POOL_IMAGES
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.util.below import OPEN_DIRECTORY

#: What was read so many seconds ago is still in the caches.
_MARKED = 600


def image_of_link(store: str, content: StoreContent, name: str) -> StoredImage | None:
    """The image of the store whose top layer has this name in ``overlay/l``. None if there is none,
    for example because a sync has removed it since."""
    try:
        # It leads to ../<layer ID>/diff.
        target = os.readlink(f"{store}/{CURRENT}/{OVERLAY}/l/{os.path.basename(name)}")
    except (OSError, ValueError):
        return None
    layer_id = os.path.basename(os.path.dirname(target))
    found = (image for image in content.images.values() if image.top_layer == layer_id)
    return next(found, None)


def put_mark(path: str) -> None:
    """Make the file ``path`` say that its image isn't to be read again for some minutes."""
    until = time.time() + _MARKED
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.utime(descriptor, (until, until))
        finally:
            os.close(descriptor)


def drop_mark(path: str) -> None:
    """Take that back."""
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def only_once(store: str, image: StoredImage) -> Iterator[bool]:
    """Gives whether nobody else is inside this for the image.

    The lock is on the image's directory in the store, so nothing is left behind. Everybody who can
    read the store could hold it; that keeps others from nothing but reading early.
    """
    try:
        descriptor = os.open(f"{store}/{POOL_IMAGES}/{image.entry}", OPEN_DIRECTORY)
    except OSError:
        # A sync has removed the image just now.
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_first = True
    except OSError:
        is_first = False
    try:
        yield is_first
    finally:
        os.close(descriptor)
