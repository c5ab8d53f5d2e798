# SPDX-License-Identifier: Apache-2.0
"""Writes new entries into a store's pool."""

from __future__ import annotations

import os
from collections.abc import Iterable

from podman_cvmfs.lists.known import KnownLists
from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import write_image_entry, write_layer_entry, write_piece_entry
from podman_cvmfs.store.records import ImageFiles, LayerDirectory, Piece


def fill_pool(
    store: str,
    layers: Iterable[LayerDirectory],
    images: Iterable[ImageFiles],
    pieces: Iterable[Piece],
    lists: KnownLists,
    made: list[str],
) -> None:
    """Write the missing entries into the pool of ``store``. ``lists`` has the file lists of pieces.
    ``made`` gets the path of each entry before it is written. Raises OSError, StoreError, and
    BadListError for a list that can't be written."""
    for piece in pieces:
        path = f"{store}/{layout.POOL_LAYERS}/{piece.entry}"
        if not os.path.lexists(path):
            made.append(path)
            write_piece_entry(path, piece, lists.entries)
    for layer in layers:
        path = f"{store}/{layout.POOL_LAYERS}/{layer.entry}"
        if not os.path.lexists(path):
            made.append(path)
            write_layer_entry(path, layer)
    for image in images:
        path = f"{store}/{layout.POOL_IMAGES}/{image.entry}"
        if not os.path.lexists(path):
            made.append(path)
            write_image_entry(path, image)
