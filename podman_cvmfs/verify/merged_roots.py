# SPDX-License-Identifier: Apache-2.0
"""Compare merged roots with the layers that they are made of, by lists of their files.

A publisher may have lost files while it merged an image's layers. Containers then lack them, and
nothing else tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable
from podman_cvmfs.lists.catalogues import Catalogues
from podman_cvmfs.lists.kept import KeptLists
from podman_cvmfs.lists.source import ListSource
from podman_cvmfs.lists.stacked import lacking
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.repository.layout import flat_directory
from podman_cvmfs.repository.served import open_tree
from podman_cvmfs.settings.policy import View
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.sync.newly_listed import blobs_of
from podman_cvmfs.util.words import counted
from podman_cvmfs.verify.fault import Fault, Kind, Severity

log = logging.getLogger(__name__)

_CURE = "tell who publishes the repository, and sync with --view layers until it is mended"


def compare_merged_roots(
    store: str, content: StoreContent, kept: KeptLists, catalogues: Catalogues
) -> Iterator[Fault]:
    """A warning for each image of ``store`` whose merged root lacks files that its layers have, and
    for each that can't be compared. ``kept`` gets the lists of layers. Raises StoreError."""
    sources: dict[str, ListSource] = {}
    for image in content.images.values():
        if image.view != View.FLAT.value or is_retired(image):
            continue
        root = f"{image.repository}/{flat_directory(image.source_id)}"
        try:
            if image.repository not in sources:
                tree = open_tree(image.repository)
                sources[image.repository] = ListSource(tree, kept, catalogues)
            lost = _lost(store, image, kept, sources[image.repository])
        except PodmanCvmfsError as err:
            yield Fault(
                Severity.WARNING,
                Kind.UNCHECKED,
                printable(root),
                f"can't be compared with its layers: {err.message}",
                "check that the repository is mounted and readable",
            )
            continue
        if lost:
            names = printable(", ".join(sorted(lost)[:3]))[:300]
            yield Fault(
                Severity.WARNING,
                Kind.LOST_FILES,
                printable(root),
                f"lacks {counted(len(lost), 'file')} that the image's layers have: {names}",
                _CURE,
            )


def _lost(store: str, image: StoredImage, kept: KeptLists, source: ListSource) -> list[str]:
    """The files that the merged root of an image lacks. Raises InputError for an image without
    lists, RepositoryError, StoreError."""
    place = flat_directory(image.source_id)
    merged = source.files_below(place)
    if merged is None:
        raise InputError("the merged root is gone")
    lists = []
    for layer in blobs_of(store, image):
        found = source.find(layer.digest, place)
        if found is None:
            raise InputError(f"there is no file list of layer {layer.digest.hex[:12]}")
        lists.append(kept.entries(found[1]))
    return [*lacking(lists, merged.entries())]
