# SPDX-License-Identifier: Apache-2.0
"""Writes new entries into a store's pool."""

from __future__ import annotations

import os
from collections.abc import Iterable

from podman_cvmfs.lists.known import BadListError, KnownLists
from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import write_image_entry, write_layer_entry, write_piece_entry
from podman_cvmfs.store.metadata_size import metadata_bytes
from podman_cvmfs.store.records import ImageFiles, LayerDirectory, Metadata, Piece
from podman_cvmfs.util.words import counted


def fill_pool(
    store: str,
    layers: Iterable[LayerDirectory],
    images: Iterable[ImageFiles],
    pieces: Iterable[Piece],
    lists: KnownLists,
    budget: int,
    made: list[str],
) -> None:
    """Write the missing entries into the pool of ``store``. ``lists`` has the file lists of pieces
    and the tar-splits of layers.
    All metadata in the pool may have ``budget`` bytes. ``made`` gets the path of each entry before
    it is written. Raises OSError, StoreError, and BadListError for lists that can't be written."""
    missing = [
        piece
        for piece in pieces
        if not os.path.lexists(f"{store}/{layout.POOL_LAYERS}/{piece.entry}")
    ]
    metadata = [piece for piece in missing if isinstance(piece.part, Metadata)]
    left = budget - metadata_bytes(store) if metadata else 0
    for number, piece in enumerate(metadata):
        if left <= 0:
            digests = [each.part.digest for each in metadata[number:]
                       if isinstance(each.part, Metadata)]  # fmt: skip
            raise BadListError(
                digests,
                f"{counted(len(digests), 'layer')} can't be shown exactly: the metadata in the "
                f"store would take more than {budget} bytes",
                "set lists_budget to more, or wish for fewer images",
            )
        path = f"{store}/{layout.POOL_LAYERS}/{piece.entry}"
        made.append(path)
        write_piece_entry(path, piece, lists.entries)
        left -= os.lstat(f"{path}/{layout.BLOB}").st_size
    for piece in missing:
        if not isinstance(piece.part, Metadata):
            path = f"{store}/{layout.POOL_LAYERS}/{piece.entry}"
            made.append(path)
            write_piece_entry(path, piece, lists.entries)
    for layer in layers:
        path = f"{store}/{layout.POOL_LAYERS}/{layer.entry}"
        if not os.path.lexists(path):
            made.append(path)
            write_layer_entry(path, layer, lists.tar_split)
    for image in images:
        path = f"{store}/{layout.POOL_IMAGES}/{image.entry}"
        if not os.path.lexists(path):
            made.append(path)
            write_image_entry(path, image)
