# SPDX-License-Identifier: Apache-2.0
"""Find stored images that could be shown exactly since their layers have got file lists."""

from __future__ import annotations

from collections.abc import Collection

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Descriptor, Digest, parse_manifest
from podman_cvmfs.settings.policy import View
from podman_cvmfs.store.layout import CURRENT, IMAGES
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.util.foreign_file import read_bounded


def listed_since(current: StoreContent, wanted: Collection[str], request: SyncRequest) -> set[str]:
    """The source IDs, among those ``wanted``, of images of ``current`` that are shown in another
    view, although all their layers have lists now."""
    if not request.policy.exact:
        return set()
    known: dict[tuple[str, Digest], bool] = {}

    def is_listed(repository: str, layer: Digest) -> bool:
        key = repository, layer
        if key not in known:
            known[key] = request.store.lists.find(repository, layer) is not None
        return known[key]

    found: set[str] = set()
    for image in current.images.values():
        sources = image.all_sources.intersection(wanted)
        if sources and image.view != View.EXACT.value:
            layers = descriptors_of(request.store.path, image)
            if layers and all(is_listed(image.repository, each.digest) for each in layers):
                found |= sources
    return found


def descriptors_of(store: str, image: StoredImage) -> list[Descriptor]:
    """The layers of an image in the store, base first; none if the manifest can't be read."""
    path = f"{store}/{CURRENT}/{IMAGES}/{image.image_id}/manifest"
    try:
        manifest = parse_manifest(read_bounded(path, MAX_DOCUMENT), "the manifest")
    except (OSError, InputError):
        return []
    return [layer for layer in manifest.layers if not layer.is_foreign]
