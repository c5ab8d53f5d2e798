# SPDX-License-Identifier: Apache-2.0
"""Finds layers of a store whose files the repository has no more."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator

from podman_cvmfs.repository.layout import FILE_TREES
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.records import StoreContent, StoredLayer

#: What is in the paths of the files that layers show.
TREES = tuple(f"/{name}/" for name in FILE_TREES)


def vanished_layers(store: str, content: StoreContent, layer_ids: Iterable[str]) -> set[str]:
    """Those of the layers ``layer_ids`` of ``content``, which ``store`` holds, whose files the
    repository has no more.

    A repository that isn't there just now proves nothing, nor does a file that can't be read: the
    tree that held the files must be there, and they not.
    """
    found = set()
    trees: dict[str, bool] = {}
    for layer_id in layer_ids:
        for target in targets(f"{store}/{OVERLAY}", content.layers[layer_id]):
            tree = next((target[: target.find(t) + len(t)] for t in TREES if t in target), None)
            if tree is None:
                continue
            if tree not in trees:
                trees[tree] = _lists_something(tree)
            if trees[tree] and is_missing(target):
                found.add(layer_id)
    return found


def targets(overlay: str, layer: StoredLayer) -> Iterator[str]:
    """Where what ``layer`` shows leads to, as far as that is links. ``overlay`` is the store's
    directory of that name."""
    if layer.lowers is None:
        paths = _parts(f"{overlay}/{layer.layer_id}")
    else:
        paths = iter([f"{overlay}/{piece_id}/diff" for piece_id in layer.lowers])
    for path in paths:
        # What is local isn't a link.
        with contextlib.suppress(OSError):
            yield os.readlink(path)


def _parts(directory: str) -> Iterator[str]:
    """The parts of a layer of layout 4."""
    for number in itertools.count():
        path = f"{directory}/diff{number or ''}"
        if not os.path.lexists(path):
            return
        yield path


def _lists_something(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def is_missing(path: str) -> bool:
    """Whether nothing is at ``path``; what can't be read may be there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
