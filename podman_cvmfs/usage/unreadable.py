# SPDX-License-Identifier: Apache-2.0
"""Finds layers of a store whose files can't be read while the repository's server is down.

CernVM-FS's client goes on to show what is in its cache. Whether that is all of an image nobody can
tell; but the first look into its directories needs their catalogue, which the client has if
anything of the image was ever read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.vanished import targets

#: What has not been answered within so many seconds, altogether, can't be read.
_PATIENCE = 30.0


def unreadable_layers(store: str, content: StoreContent, repositories: Collection[str]) -> set[str]:
    """The IDs of layers of ``content`` that show files of one of these ``repositories``, which are
    down, and can't be read now."""
    shown: dict[str, list[str]] = {}
    for layer in content.layers.values():
        if layer.repository in repositories:
            for target in targets(f"{store}/{OVERLAY}", layer):
                shown.setdefault(target, []).append(layer.layer_id)
    end = time.monotonic() + _PATIENCE

    def is_unreadable(target: str) -> bool:
        return time.monotonic() > end or not _can_be_listed(target)

    def given_up(target: str, seconds: float) -> bool | None:
        return True if time.monotonic() > end else None

    answers = Readers(is_slow=True).map(is_unreadable, shown, given_up)
    return {
        layer_id
        for target, unreadable in zip(shown, answers)
        if unreadable
        for layer_id in shown[target]
    }


def _can_be_listed(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
    except OSError:
        return False
    return True
