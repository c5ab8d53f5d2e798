# SPDX-License-Identifier: Apache-2.0
"""Find stored images that were incomplete in their repository when they were laid out. DUCC
publishes an image in several transactions: layers and manifest, then the merged root, at last the
link."""

from __future__ import annotations

from collections.abc import Collection

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.repository.offers import Offer, Offers
from podman_cvmfs.settings.policy import Reuse, View
from podman_cvmfs.store.records import StoreContent, chain_of
from podman_cvmfs.sync.request import SyncRequest


def completed_since(
    current: StoreContent, wanted: Collection[str], offers: Offers, request: SyncRequest
) -> set[str]:
    """The source IDs, among those ``wanted``, of images of ``current`` of which the repository now
    has more. This is the merged root if they are shown by their layers. Or it is the base if an
    empty layer stands in for it, so that pulls don't find it."""
    rootless: set[str] = set()
    baseless: set[str] = set()
    for image in current.images.values():
        sources = image.all_sources.intersection(wanted)
        chain = chain_of(current, image.top_layer) if sources else []
        if len(chain) < 2:
            continue
        if not (chain[0].merged or chain[0].exact) and request.policy.view is View.AUTO:
            rootless |= sources
        elif (
            not chain[-1].repository and request.policy_of(image.repository).reuse is not Reuse.NONE
        ):
            baseless |= sources
    groups = offers.by_source(rootless | baseless) if rootless or baseless else {}
    return {
        source
        for source, group in groups.items()
        if (_has_root if source in rootless else _has_base)(group[0])
    }


def _has_root(offer: Offer) -> bool:
    """Whether the merged root and the link to it are there, as far as they can be read."""
    try:
        return offer.repository.has_merged_root(offer.image)
    except RepositoryError:
        return False


def _has_base(offer: Offer) -> bool:
    """Whether the lowest layer is there, as far as it can be read."""
    try:
        return offer.repository.has_base(offer.image)
    except RepositoryError:
        return False
