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
from podman_cvmfs.util.foreign_file import read_bounded

#: The file in a layer's directory that names the layers below it, nearest first, as ``l/<name>``
#: (containers/storage ``drivers/overlay/overlay.go``). At most 500 of less than 64 bytes.
#: What was read so many seconds ago is still in the caches.
_MARKED = 600
_LOWER, _MAX_LOWER = "lower", 64 * 1024


def image_of_layer(store: str, content: StoreContent, layer: str) -> StoredImage | None:
    """The image of the store that the container with the layer in the directory ``layer`` was made
    on, or that the container's image was built on. None if its image isn't of the store, or if
    podman has removed the container since."""
    try:
        lower = read_bounded(f"{layer}/{_LOWER}", _MAX_LOWER).decode("ascii", "replace")
    except OSError:
        return None
    images = {image.top_layer: image for image in content.images.values()}
    for name in lower.split(":"):
        try:
            # It leads to ../<layer ID>/diff.
            target = os.readlink(f"{store}/{CURRENT}/{OVERLAY}/{name.strip()}")
        except (OSError, ValueError):
            continue
        found = images.get(os.path.basename(os.path.dirname(target)))
        if found is not None:
            return found
    return None


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
