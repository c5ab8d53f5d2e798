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

from podman_cvmfs.repository.served import NO_ANSWER, NO_CLIENT
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.piece_target import piece_target
from podman_cvmfs.store.records import StoreContent, StoredLayer
from podman_cvmfs.usage.vanished import TREES, targets


def in_use(content: StoreContent) -> list[str]:
    """The IDs of the layers of ``content`` that its images may show. One of layout 4 may be retired
    and still be an image's."""
    return [
        layer_id
        for layer_id, layer in content.layers.items()
        if layer.retired is None or layer.lowers is None
    ]


class ShownDirectories:
    """The directories in repositories that layers of ``store`` show, and those on the way to them.

    Each link of the store is read once: what a piece shows never changes.
    """

    def __init__(self, store: str) -> None:
        self._overlay = f"{store}/{OVERLAY}"
        self._of_piece: dict[str, tuple[str, ...]] = {}

    def of(self, layer: StoredLayer) -> Iterable[str]:
        """Where the pieces of ``layer`` lead to."""
        if layer.lowers is None:
            yield from targets(self._overlay, layer)
            return
        for piece_id in layer.lowers:
            found = self._of_piece.get(piece_id)
            if found is None:
                target = piece_target(f"{self._overlay}/{piece_id}")
                found = () if target is None else (target,)
                self._of_piece[piece_id] = found
            yield from found

    def on_links(self, content: StoreContent, layer_ids: Iterable[str]) -> dict[str, str]:
        """Those of these layers of ``content`` that are reached over a symbolic link: layer ID ->
        the link's path.

        The repository itself may be reached by one. What can't be looked at isn't found. Once a
        repository doesn't answer, nothing more is asked of it: that may take seconds each time.
        """
        links: dict[str, str] = {}
        silent: set[str] = set()
        found: dict[str, str] = {}
        for layer_id in layer_ids:
            for target in self.of(content.layers[layer_id]):
                if target not in links:
                    _look(target, links, silent)
                if links[target]:
                    found[layer_id] = links[target]
                    break
        return found

    def all(self, content: StoreContent, layer_ids: Iterable[str]) -> list[str]:
        """The directories of these layers of ``content``, and those on the way to them."""
        found: set[str] = set()
        for layer_id in layer_ids:
            for target in self.of(content.layers[layer_id]):
                if target not in found:
                    found.update(_way(target))
        return sorted(found)


def _look(target: str, links: dict[str, str], silent: set[str]) -> None:
    """Note in ``links`` of each directory on the way to ``target`` the first symbolic link on the
    way to it, "" for none; in ``silent`` its repository, if that doesn't answer."""
    link = ""
    way = _way(target)
    root = os.path.dirname(way[0])
    for path in way:
        known = links.get(path)
        if known is None:
            is_link = not link and root not in silent and _is_link(path, root, silent)
            known = links[path] = link or (path if is_link else "")
        link = known


def _way(target: str) -> list[str]:
    """The directories from the repository's root to ``target``, without that root; only ``target``
    where nobody knows the root."""
    starts = [place for place in map(target.find, TREES) if place >= 0]
    way = [target]
    if starts:
        root = min(starts)
        above = target.rfind("/")
        while above > root:
            way.append(target[:above])
            above = target.rfind("/", 0, above)
        way.reverse()
    return way


def _is_link(path: str, root: str, silent: set[str]) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError as err:
        if err.errno in NO_ANSWER | NO_CLIENT:
            silent.add(root)
        return False
