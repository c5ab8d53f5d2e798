# SPDX-License-Identifier: Apache-2.0
"""Find stored images that newer file lists could show exactly, or better than they are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import (
    MAX_DOCUMENT,
    Descriptor,
    Digest,
    parse_config,
    parse_manifest,
)
from podman_cvmfs.repository.layout import LAYERFS, layer_directory
from podman_cvmfs.settings.policy import Reuse
from podman_cvmfs.store.layout import CURRENT, IMAGES
from podman_cvmfs.store.records import Metadata, Piece, StoreContent, StoredImage
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.util.foreign_file import read_bounded


def listed_since(current: StoreContent, wanted: Collection[str], request: SyncRequest) -> set[str]:
    """The source IDs, among those ``wanted``, of images of ``current`` that are shown in another
    view, although all their layers have lists now, or by other lists than these, or without the
    tar-splits that all their layers have now."""
    if not request.policy.exact:
        return set()
    known: dict[tuple[str, Digest], str | None] = {}

    def piece_of(repository: str, layer: Digest) -> str | None:
        """The ID of the piece that shows a layer by its list; None without a list."""
        key = repository, layer
        if key not in known:
            digest = request.store.lists.find(repository, layer)
            files = f"{repository}/{layer_directory(layer.hex)}/{LAYERFS}"
            part = None if digest is None else Metadata(files, repository, digest)
            known[key] = None if part is None else Piece.of(part).piece_id
        return known[key]

    found: set[str] = set()
    for image in current.images.values():
        sources = image.all_sources.intersection(wanted)
        if not sources or image.top_layer is None:
            continue
        layers = blobs_of(request.store.path, image)
        pieces = {piece_of(image.repository, each.digest) for each in layers}
        shown = current.layers[image.top_layer].lowers or ()
        if not layers or None in pieces:
            continue
        if not pieces.issubset(shown) or _can_be_pushed_now(current, image, layers, request):
            found |= sources
    return found


def _can_be_pushed_now(
    current: StoreContent,
    image: StoredImage,
    layers: Sequence[Descriptor],
    request: SyncRequest,
) -> bool:
    """Whether an exact image lacks tar-splits although those of all its ``layers`` are known."""
    top = current.layers[image.top_layer or ""]
    if top.tar_split is not None or request.policy_of(image.repository).reuse is Reuse.NONE:
        return False
    lists = request.store.lists
    # Most layers without a tar-split have none in the cache, so one question is enough.
    pairs = zip(layers, _diff_ids_of(request.store.path, image))
    return all(lists.tar_size(layer.digest, diff_id) is not None for layer, diff_id in pairs)


def _diff_ids_of(store: str, image: StoredImage) -> Iterator[Digest]:
    """The diff IDs of an image in the store, base first. A digest that no layer has if they can't
    be read."""
    key = big_data_file(f"sha256:{image.image_id}")
    try:
        path = f"{store}/{CURRENT}/{IMAGES}/{image.image_id}/{key}"
        yield from parse_config(read_bounded(path, MAX_DOCUMENT)).diff_ids
    except (OSError, InputError):
        yield Digest.of(b"")


def blobs_of(store: str, image: StoredImage) -> list[Descriptor]:
    """The layers of an image in the store, base first; none if the manifest can't be read."""
    path = f"{store}/{CURRENT}/{IMAGES}/{image.image_id}/manifest"
    try:
        manifest = parse_manifest(read_bounded(path, MAX_DOCUMENT), "the manifest")
    except (OSError, InputError):
        return []
    return [layer for layer in manifest.layers if not layer.is_foreign]
