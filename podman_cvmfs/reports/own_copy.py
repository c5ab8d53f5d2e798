# SPDX-License-Identifier: Apache-2.0
"""Finds images that an engine uses instead of the store's: its own, or another store's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from podman_cvmfs.errors import InputError
from podman_cvmfs.reports.configured import Configured
from podman_cvmfs.store.records import StoreContent, StoredImage
from podman_cvmfs.usage.foreign_store import ForeignStore
from podman_cvmfs.usage.graphroots import find_graphroots


@dataclass(frozen=True)
class OwnCopy:
    """An image that podman finds before ours: its ID, the directory it is recorded in.

    ``on_ours`` says that its layers are those of our store: only the record is another one.
    """

    image_id: str
    place: str
    on_ours: bool


def own_copy(
    places: Sequence[str],
    names: Sequence[str],
    stored: StoredImage | None,
    content: StoreContent,
) -> OwnCopy | None:
    """The first image in ``places`` (graphroots and stores) that has one of ``names``, or the ID of
    ``stored``: podman goes by the ID once it has found one."""
    for place in places:
        # Broken records are passed over: podman itself complains of them.
        theirs = ForeignStore(place)
        for record in theirs.images():
            image_id, top, own = record["id"], record.get("layer"), record.get("names")
            is_named = isinstance(own, list) and not set(names).isdisjoint(map(str, own))
            if is_named or (stored is not None and image_id == stored.image_id):
                on_ours = top in content.layers and all(
                    each["id"] != top for each in theirs.layers()
                )
                if on_ours and stored is not None and image_id != stored.image_id:
                    on_ours = False
                return OwnCopy(image_id, place, on_ours)
    return None


def own_places(configured: Configured) -> list[str]:
    """Where the engine looks before it looks into our store."""
    if configured.graphroots is not None:
        return [*configured.graphroots, *configured.before]
    try:
        own = find_graphroots(passwd=os.devnull, subuid=os.devnull, crio=None).own
    except InputError:
        own = []
    return [*own, *configured.before]
