# SPDX-License-Identifier: Apache-2.0
"""Finds layers of a store whose files are reached over a symbolic link in the repository.

A sync lays out no image that is reached so, for a link may lead anywhere. But whoever can write to
a repository can put a link in a directory's place after that. Then containers show what the link
leads to: files of the host.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.vanished import TREES, targets


def linked_layers(store: str, content: StoreContent, layer_ids: Iterable[str]) -> dict[str, str]:
    """Those of the layers ``layer_ids`` of ``content``, which ``store`` holds, that are reached
    over a symbolic link: layer ID -> the link's path.

    The repository itself may be reached by one. What can't be looked at isn't found.
    """
    found: dict[str, str] = {}
    known: dict[str, str] = {}
    for layer_id in layer_ids:
        for target in targets(f"{store}/{OVERLAY}", content.layers[layer_id]):
            link = _link_on_way(target, _root(target), known)
            if link:
                found[layer_id] = link
                break
    return found


def directories_shown(store: str, content: StoreContent, layer_ids: Iterable[str]) -> list[str]:
    """The directories in repositories that these layers show, and those on the way to them."""
    found: set[str] = set()
    for layer_id in layer_ids:
        for target in targets(f"{store}/{OVERLAY}", content.layers[layer_id]):
            root = _root(target)
            while len(target) > len(root) and target not in found:
                found.add(target)
                target = os.path.dirname(target)
    return sorted(found)


def _root(target: str) -> str:
    """The repository that a directory with files is in; the directory itself if that isn't known:
    then nothing on the way to it is looked at."""
    places = [target.find(tree) for tree in TREES if tree in target]
    return target[: min(places)] if places else target


def _link_on_way(path: str, root: str, known: dict[str, str]) -> str:
    """The first symbolic link on the way to ``path`` from ``root``; "" if there is none. Each
    directory is looked at once: ``known`` has the answers."""
    if len(path) <= len(root):
        return ""
    if path not in known:
        link = _link_on_way(os.path.dirname(path), root, known)
        known[path] = link or (path if _is_link(path) else "")
    return known[path]


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False
