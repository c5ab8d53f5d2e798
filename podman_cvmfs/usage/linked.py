# SPDX-License-Identifier: Apache-2.0
"""Finds layers of a store whose files are reached over a symbolic link in the repository.

A sync lays out no image that is reached so, for a link may lead anywhere. But whoever can write to
a repository can put a link in a directory's place after that. Then containers show what the link
leads to: files of the host.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from podman_cvmfs.repository.served import NO_ANSWER, NO_CLIENT
from podman_cvmfs.store.layout import OVERLAY, POOL_LAYERS, piece_entry
from podman_cvmfs.store.piece_target import piece_target
from podman_cvmfs.store.records import StoreContent, StoredLayer
from podman_cvmfs.usage.vanished import TREES, has_left, targets
from podman_cvmfs.util.below import OPEN_DIRECTORY


def in_use(content: StoreContent) -> list[str]:
    """The IDs of the layers of ``content`` that its images may show. One of layout 4 may be retired
    and still be an image's."""
    return [
        layer_id
        for layer_id, layer in content.layers.items()
        if layer.retired is None or layer.lowers is None
    ]


@dataclass
class Seen:
    """What was found instead of directories, by the IDs of layers. Values are paths."""

    #: Layers that are reached over a symbolic link -> the link.
    linked: dict[str, str] = field(default_factory=dict)
    #: Layers whose files have left their repository -> a directory that is missing.
    lost: dict[str, str] = field(default_factory=dict)


class ShownDirectories:
    """The directories in repositories that layers of ``store`` show, and those on the way to them.

    Each link of the store is read once: what a piece shows never changes.
    """

    def __init__(self, store: str) -> None:
        self._overlay = f"{store}/{OVERLAY}"
        self._pool = f"{store}/{POOL_LAYERS}"
        self._of_piece: dict[str, str] = {}

    def _read(self, content: StoreContent, layer_ids: Iterable[str]) -> None:
        """Read the links of the pieces of these layers."""
        pieces = {
            piece_id for each in layer_ids for piece_id in content.layers[each].lowers or ()
        } - self._of_piece.keys()
        if not pieces:
            return
        try:
            # There may be 10,000 pieces. From here on the kernel has short ways to them.
            pool = os.open(self._pool, OPEN_DIRECTORY)
        except OSError:
            return
        try:
            for piece_id in pieces:
                self._of_piece[piece_id] = piece_target(piece_entry(piece_id), pool) or ""
        finally:
            # An error at the close of what was only read from says nothing.
            with contextlib.suppress(OSError):
                os.close(pool)

    def of(self, layer: StoredLayer) -> Iterable[str]:
        """Where the pieces of ``layer`` lead to, as far as ``look`` or ``all`` has read them."""
        if layer.lowers is None:
            return targets(self._overlay, layer)
        return filter(None, map(self._of_piece.get, layer.lowers))

    def look(self, content: StoreContent, layer_ids: Iterable[str]) -> Seen:
        """Look at the directories of these layers of ``content``.

        The repository itself may be reached by a link. What can't be looked at isn't found. Once a
        repository doesn't answer, nothing more is asked of it: that may take seconds each time.
        """
        layer_ids = list(layer_ids)
        self._read(content, layer_ids)
        ways = _Ways()
        seen = Seen()
        for layer_id in layer_ids:
            for target in self.of(content.layers[layer_id]):
                link = ways.first_link(target)
                if link:
                    seen.linked[layer_id] = link
                    break
                if target in ways.absent and has_left(target):
                    seen.lost[layer_id] = target
        return seen

    def all(self, content: StoreContent, layer_ids: Iterable[str]) -> list[str]:
        """The directories of these layers of ``content``, and those on the way to them."""
        layer_ids = list(layer_ids)
        self._read(content, layer_ids)
        found: set[str] = set()
        for layer_id in layer_ids:
            for target in self.of(content.layers[layer_id]):
                path = target
                while path and path not in found:
                    found.add(path)
                    path = _above(path)
        return sorted(found)


class _Ways:
    """The ways from repositories to directories, each looked at once."""

    def __init__(self) -> None:
        #: The first symbolic link on the way to each directory, itself included; "" without one.
        self._links: dict[str, str] = {}
        #: What isn't there.
        self.absent: set[str] = set()
        #: The repositories that don't answer.
        self._silent: set[str] = set()

    def first_link(self, path: str) -> str:
        """The first symbolic link on the way from the repository to ``path``; "" without one."""
        link = self._links.get(path)
        if link is None:
            above = _above(path)
            link = self.first_link(above) if above else ""
            if not link and self._is_link(path):
                link = path
            self._links[path] = link
        return link

    def _is_link(self, path: str) -> bool:
        if self._silent and _root_of(path) in self._silent:
            return False
        try:
            return stat.S_ISLNK(os.lstat(path).st_mode)
        except FileNotFoundError:
            self.absent.add(path)
            return False
        except OSError as err:
            if err.errno in NO_ANSWER | NO_CLIENT:
                self._silent.add(_root_of(path))
            return False


def _above(path: str) -> str:
    """The directory above ``path``; "" if that is the repository, or might be."""
    end = path.rfind("/")
    return path[:end] if end > _root_end(path) else ""


def _root_of(path: str) -> str:
    """The repository that ``path`` is in, as far as its name tells."""
    return path[: _root_end(path)]


def _root_end(path: str) -> int:
    starts = [place for place in map(path.find, TREES) if place >= 0]
    return min(starts) if starts else path.rfind("/")
