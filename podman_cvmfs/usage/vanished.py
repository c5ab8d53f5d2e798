# SPDX-License-Identifier: Apache-2.0
"""Finds layers of a store whose files have left the repository."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator

from podman_cvmfs.repository.layout import FILE_TREES
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.piece_target import piece_target
from podman_cvmfs.store.records import StoreContent, StoredLayer

#: This is in the path of every file that a layer shows.
TREES = tuple(f"/{name}/" for name in FILE_TREES)


def vanished_layers(store: str, content: StoreContent, layer_ids: Iterable[str]) -> set[str]:
    """The layers among ``layer_ids`` whose files have left the repository. ``store`` holds
    ``content``."""
    overlay = f"{store}/{OVERLAY}"
    return {
        layer_id
        for layer_id in layer_ids
        if any(map(has_left, targets(overlay, content.layers[layer_id])))
    }


def has_left(directory: str) -> bool:
    """Whether files that were in ``directory`` have left the repository.

    A missing repository or an unreadable file proves nothing: the tree that held the files must be
    there, without the files.
    """
    for tree in TREES:
        if tree in directory:
            held = directory[: directory.find(tree) + len(tree)]
            return is_missing(directory) and _lists_something(held)
    return False


def targets(overlay: str, layer: StoredLayer) -> Iterator[str]:
    """The targets of the links that ``layer`` shows. ``overlay`` is the store's directory of that
    name."""
    if layer.lowers is not None:
        found = (piece_target(f"{overlay}/{piece_id}") for piece_id in layer.lowers)
        yield from (target for target in found if target is not None)
        return
    for path in _parts(f"{overlay}/{layer.layer_id}"):
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
