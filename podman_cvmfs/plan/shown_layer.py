# SPDX-License-Identifier: Apache-2.0
"""What all laid-out layers have in common: their records, IDs and empty directories. Pure."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

from podman_cvmfs.store.records import (
    GZIP,
    UNCOMPRESSED,
    ZSTD,
    LayerDirectory,
    LocalPart,
    Node,
    StoredLayer,
)

#: What podman gives the root directory of every layer it unpacks, whatever the layer says
#: (containers/storage ``drivers/overlay/overlay.go``, ``defaultPerms``).
ROOT_MODE = 0o555
#: The content of a layer itself. It decides the mode of a container's root directory.
EMPTY = LocalPart((Node("", mode=ROOT_MODE),))

#: A layer's record, and its directory in the pool.
Shown = tuple[StoredLayer, LayerDirectory]


def image_layer_id(lowers: Sequence[str], parent: str | None) -> str:
    """The ID of the layer on ``parent`` that shows an image by the pieces ``lowers``. Pulls never
    ask for it."""
    text = f"podman-cvmfs image {':'.join(lowers)} on {parent}"
    return hashlib.sha256(text.encode()).hexdigest()


def stand_in_id(parent: str | None) -> str:
    """The ID of the empty layer on ``parent`` in the place of a layer that isn't shown."""
    return hashlib.sha256(f"podman-cvmfs stand-in on {parent}".encode()).hexdigest()


@functools.lru_cache(maxsize=65536)
def stand_in(parent: str | None) -> Shown:
    """An empty layer on ``parent``, in the place of a layer that isn't shown.

    The result is cached, because thousands of images share a few.
    """
    directory = LayerDirectory(stand_in_id(parent), EMPTY)
    return StoredLayer(directory.layer_id, directory.entry, parent, diff_size=0), directory


def compression_of(media_type: str) -> int:
    """The number by which containers/storage knows the compression of a blob of this type."""
    if media_type.endswith("zstd"):
        return ZSTD
    return GZIP if media_type.endswith("gzip") or not media_type else UNCOMPRESSED
