# SPDX-License-Identifier: Apache-2.0
"""The pieces that show an image exactly. Pure: no I/O."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from podman_cvmfs.resolve.image import Layer
from podman_cvmfs.store.records import Data, Metadata, Piece


def exact_pieces(layers: Sequence[Layer]) -> list[Piece]:
    """The pieces that show ``layers``, base first, by their file lists; nearest first.

    Of equal layers only the topmost counts, as in the layers view. The last piece leads to the
    repository with the data of all files.
    """
    found: dict[str, Piece] = {}
    roots = set()
    for layer in reversed(layers):
        assert layer.listed is not None and layer.files is not None
        digest, root = layer.listed
        roots.add(root)
        found.setdefault(layer.files, _piece(Metadata(layer.files, root, digest)))
    (root,) = roots
    return [*found.values(), Piece.of(Data(root))]


@functools.lru_cache(maxsize=4096)
def _piece(metadata: Metadata) -> Piece:
    # Many images share a base.
    return Piece.of(metadata)
