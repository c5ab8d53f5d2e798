# SPDX-License-Identifier: Apache-2.0
"""Look for containers and images that mount metadata which no image of our store has any more."""

from __future__ import annotations

import os

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.usage.layer_users import find_layer_users
from podman_cvmfs.util.probe import HangingError, bounded


def look_at_left_exact(store: str, seconds: float) -> tuple[str, ...]:
    """The containers and images of whoever runs this that stand on former exact layers of
    ``store``: a sync gave their images another view since."""

    def look() -> tuple[str, ...]:
        content = read_store(store)
        if content is None:
            return ()
        shown = {each.top_layer for each in content.images.values() if not is_retired(each)}
        former = {key for key, each in content.layers.items() if each.exact and key not in shown}
        if not former:
            return ()
        uses = find_layer_users(content, find_graphroots(passwd=os.devnull, subuid=os.devnull).own)
        found = {user for key in former for user in uses.layers.get(key, ())}
        return tuple(sorted(user.name for user in found))

    try:
        return bounded(look, seconds)
    except (HangingError, OSError, PodmanCvmfsError):
        # Other looks report all these.
        return ()
