# SPDX-License-Identifier: Apache-2.0
"""The pieces that show an image exactly, and its layers with tar-splits. Pure: no I/O."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from podman_cvmfs.plan.shown_layer import EMPTY, Shown, compression_of, image_layer_id
from podman_cvmfs.resolve.image import Layer
from podman_cvmfs.store.records import (
    Data,
    LayerDirectory,
    Metadata,
    Piece,
    StoredLayer,
    TarSplit,
)


def exact_pieces(layers: Sequence[Layer]) -> list[Piece]:
    """The pieces that show ``layers``, base first, by their file lists; nearest first.

    Of equal layers only the topmost counts, as in the layers view. The last piece leads to the
    repository with the data of all files.
    """
    found: dict[str, Piece] = {}
    roots = set()
    for layer in reversed(layers):
        assert layer.listed is not None and layer.files is not None
        digest, root = layer.listed.digest, layer.listed.root
        roots.add(root)
        found.setdefault(layer.files, _piece(Metadata(layer.files, root, digest)))
    (root,) = roots
    return [*found.values(), Piece.of(Data(root))]


@functools.lru_cache(maxsize=4096)
def _piece(metadata: Metadata) -> Piece:
    # Many images share a base.
    return Piece.of(metadata)


def layers_with_tars(
    layers: Sequence[Layer], source: str
) -> tuple[list[Shown], Shown, tuple[Piece, ...]]:
    """All ``layers`` of an image, base first, with their tar-splits and genuine digests; the layer
    that shows the image with this ``source`` ID instead of the last one; and the pieces of all.

    Pulls share these layers. As podman can make their tars again, they are right in any place.
    """
    chain: list[Shown] = []
    pieces: dict[str, Piece] = {}
    for count, layer in enumerate(layers, 1):
        below = exact_pieces(layers[:count])
        pieces.update((piece.piece_id, piece) for piece in below)
        lowers = tuple(piece.piece_id for piece in below)
        chain.append(_with_tar(layer, lowers, chain[-1][0].layer_id if chain else None))
    last, directory = chain[-1]
    # Other images may have the last layer in another view, so this image has a layer of its own.
    own = directory._replace(layer_id=image_layer_id(last.lowers or (), last.parent))
    top = replace(last, layer_id=own.layer_id, entry=own.entry, shows=source, twin=last.layer_id)
    return chain, (top, own), tuple(pieces.values())


def _with_tar(layer: Layer, lowers: tuple[str, ...], parent: str | None) -> Shown:
    """The record and the directory of a layer on ``parent`` that mounts the pieces ``lowers``."""
    assert layer.files is not None and layer.listed is not None
    part = TarSplit(layer.diff_id.hex, layer.files)
    directory = LayerDirectory(layer.layer_id, EMPTY, lowers, part)
    stored = StoredLayer(
        layer_id=layer.layer_id,
        entry=directory.entry,
        parent=parent,
        diff_size=layer.listed.tar_size or 0,
        diff_id=layer.diff_id,
        blob=layer.blob.digest,
        blob_size=layer.blob.size,
        compression=compression_of(layer.blob.media_type),
        exact=True,
        tar_split=layer.diff_id.hex,
        lowers=lowers,
    )
    return stored, directory
