# SPDX-License-Identifier: Apache-2.0
"""Choose how an image's files are shown, and lay out its layers for that. Pure: no I/O.

*flat*: the top layer shows the publisher's merged root and has nothing below it. The layers
between base and top can't be shown exactly without knowing their whiteouts, and whatever is listed
under a layer's ID may become the parent of a layer that somebody pulls. So empty layers with IDs
that nobody else has stand in for them: podman 5 refuses ``history`` for an image with fewer layers
than its config tells of. Images on one base share them, which keeps the store small.

*layers*: one directory per layer. So far only for images of one layer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.resolve import FlatRoot, Layer, ResolvedImage
from podman_cvmfs.store.records import (
    GZIP,
    UNCOMPRESSED,
    ZSTD,
    LayerDirectory,
    Link,
    LocalPart,
    Node,
    StoredLayer,
)

FLAT, LAYERS = "flat", "layers"

#: The publisher's mark of a nested catalogue, which no image has of itself.
_CATALOGUE_MARK = ".cvmfscatalog"


@dataclass(frozen=True)
class ImageView:
    """How an image is shown: its layers that go into the store, base first."""

    kind: str
    layers: tuple[tuple[StoredLayer, LayerDirectory], ...]


def view_of(image: ResolvedImage) -> ImageView:
    """Lay out ``image``; RepositoryError if the repository can't show it right."""
    layers = image.layers
    if not layers:
        return ImageView(LAYERS, ())
    base = None if layers[0].files is None else _plain_base(layers[0], layers[0].files)
    if len(layers) == 1 and base is not None:
        return ImageView(LAYERS, (base,))
    if image.flat is None:
        missing = sum(layer.files is None for layer in layers)
        raise RepositoryError(
            f"the repository has no merged root for it, and {missing} of its layers are missing"
            if missing
            else "the repository has no merged root for it, "
            f"and its {len(layers)} layers can't yet be shown without one"
        )
    shown = [] if base is None else [base]
    while len(shown) < len(layers) - 1:
        shown.append(_stand_in(shown[-1][0].layer_id if shown else None))
    # A missing base counts with the top, like everything that isn't shown by itself.
    size = sum(layer.diff_size for layer in layers) - sum(each[0].diff_size for each in shown)
    parent = shown[-1][0].layer_id if shown else None
    top = _flat_top(layers[-1].layer_id, image.source_id.hex, image.flat, parent, size)
    return ImageView(FLAT, (*shown, top))


def _plain_base(layer: Layer, files: str) -> tuple[StoredLayer, LayerDirectory]:
    """A base layer linked straight to its files: to be found by its digests and reused."""
    directory = LayerDirectory(layer.layer_id, (Link(files),))
    stored = StoredLayer(
        layer_id=layer.layer_id,
        entry=directory.entry,
        parent=None,
        diff_size=layer.diff_size,
        diff_id=layer.diff_id,
        blob=layer.blob.digest,
        blob_size=layer.blob.size,
        compression=_compression(layer.blob.media_type),
    )
    return stored, directory


def _stand_in(parent: str | None) -> tuple[StoredLayer, LayerDirectory]:
    """An empty layer on ``parent``, in the place of one that isn't shown."""
    layer_id = hashlib.sha256(f"podman-cvmfs stand-in on {parent}".encode()).hexdigest()
    directory = LayerDirectory(layer_id, (LocalPart((Node(""),)),))
    return StoredLayer(layer_id, directory.entry, parent, diff_size=0), directory


def _flat_top(
    layer_id: str, source_id: str, flat: FlatRoot, parent: str | None, size: int
) -> tuple[StoredLayer, LayerDirectory]:
    """The top layer, shown by the merged root; ``size`` is in bytes."""
    nodes = [Node("", mode=flat.mode), Node(_CATALOGUE_MARK, is_whiteout=True)]
    for path in flat.lost_sticky:
        # The parents' attributes come from here too; 0755 is what they have in every image.
        nodes += [Node(each) for each in _parents(path)]
        nodes.append(Node(path, mode=0o1777))
    directory = LayerDirectory(layer_id, (LocalPart(tuple(nodes)), Link(flat.path)))
    stored = StoredLayer(layer_id, directory.entry, parent, diff_size=size, flat_of=source_id)
    return stored, directory


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _compression(media_type: str) -> int:
    if media_type.endswith("zstd"):
        return ZSTD
    return GZIP if media_type.endswith("gzip") or not media_type else UNCOMPRESSED
