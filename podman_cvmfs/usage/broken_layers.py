# SPDX-License-Identifier: Apache-2.0
"""Finds users' images and containers that show only the files of one layer.

containers/storage 1.63 and later notes the layers below another by their IDs, in ``overlay/<layer
id>/lower-layers``, and looks them up in the user's graphroot first, then in stores
(``drivers/overlay/overlay.go``, getLowerLayerIDs and dir2). Layers without this file have
``lower``, whose links lead to the same IDs. Stores of layout 4 showed a whole image by one layer
that had the ID of a pull's top layer. Images and containers made on it name that layer alone. Once
the real layer with the ID is in the graphroot, podman mounts the real one instead, but without the
layers below it. Only making those images and containers again cures that.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podman_cvmfs.errors import printable
from podman_cvmfs.store.layout import OVERLAY, SPACER_ID
from podman_cvmfs.usage.foreign_store import ForeignStore, name_of, read_each, too_slow

_ID_DIGITS = 64


@dataclass(frozen=True, order=True)
class Broken:
    """An image or a container (``kind``) with its name, or its ID cut short, in a graphroot."""

    graphroot: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {printable(self.name)}"


@dataclass(frozen=True)
class BrokenUsers:
    """Broken images and containers. ``unreadable`` maps graphroots that couldn't be read completely
    to the reason: they may hold more broken ones."""

    found: tuple[Broken, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def by_graphroot(self) -> dict[str, tuple[Broken, ...]]:
        """The broken images and containers of each graphroot."""
        paths = dict.fromkeys(each.graphroot for each in self.found)
        return {p: tuple(each for each in self.found if each.graphroot == p) for p in paths}


def find_broken(graphroots: Sequence[str], stores: Sequence[str] = ()) -> BrokenUsers:
    """Look for broken images and containers in ``graphroots``, whose podman looks into the
    additional ``stores``. Raises nothing: the result names unreadable graphroots."""
    found: list[Broken] = []
    unreadable = {}

    def look(graphroot: ForeignStore) -> tuple[list[Broken], list[str]]:
        return list(_Look(graphroot, stores).broken()), graphroot.unreadable

    for path, answer in read_each(look, graphroots):
        broken, problems = ([], [too_slow()]) if answer is None else answer
        found += broken
        if problems:
            unreadable[path] = problems[0]
    return BrokenUsers(tuple(sorted(set(found))), unreadable)


def cure_of(broken: Iterable[Broken]) -> str:
    """The commands, for a shell, that remove the broken images and containers of one graphroot."""
    broken = list(broken)
    commands = []
    for kind, words in (("container", ("rm", "--force")), ("image", ("rmi", "--force"))):
        names = [each.name for each in broken if each.kind == kind]
        if names:
            commands.append(shlex.join(["podman", *words, *names]))
    return " && ".join(commands)


class _Look:
    """One graphroot while it is looked at."""

    def __init__(self, graphroot: ForeignStore, stores: Sequence[str]) -> None:
        self._graphroot = graphroot
        self._overlays = [f"{each}/{OVERLAY}" for each in (graphroot.path, *stores)]

    def broken(self) -> Iterator[Broken]:
        """The images and containers in it that are broken."""
        graphroot = self._graphroot
        layers = {each["id"]: each for each in graphroot.layers()}
        bad = {key for key in layers if is_cut_off(self._lowers(key), layers)}
        if not bad:
            return
        for kind, records in (("container", graphroot.containers()), ("image", graphroot.images())):
            for record in records:
                copies = record.get("mapped-layers")
                tops = [record.get("layer"), *(copies if isinstance(copies, list) else [])]
                if any(isinstance(top, str) and top in bad for top in tops):
                    yield Broken(graphroot.path, kind, name_of(record))

    def _lowers(self, layer_id: str) -> list[str]:
        """The IDs of the layers that podman mounts below one, nearest first."""
        if len(layer_id) != _ID_DIGITS or "/" in layer_id:
            return []
        noted = self._graphroot.overlay_text(layer_id, "lower-layers")
        if noted is not None:
            return noted.split(":")
        links = (self._graphroot.overlay_text(layer_id, "lower") or "").split(":")
        return [layer for layer in map(self._target, links) if layer is not None]

    def _target(self, link: str) -> str | None:
        """The ID of the layer that ``l/<name>`` leads to."""
        name = link.rpartition("/")[2]
        for overlay in self._overlays if name else ():
            try:
                return os.readlink(f"{overlay}/l/{name}").split("/")[-2]
            except (OSError, IndexError, ValueError):
                continue
        return None


def is_cut_off(lowers: Sequence[str], layers: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether ``lowers`` (IDs, nearest first) name a layer of the graphroot, but not the layers
    that it needs below it. ``layers`` are the graphroot's records."""
    for at, layer_id in enumerate(lowers):
        if layer_id not in layers:
            continue
        below = lowers[at + 1 :]
        # A layer that only a store has shows the rest: its pieces lie below it. In layout 4 it is
        # an empty layer.
        if any(each not in layers and each != SPACER_ID for each in below):
            return False
        if any(not _is_shown(each, lowers, layers) for each in _ancestors(layer_id, layers)):
            return True
    return False


def _ancestors(layer_id: str, layers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    seen = {layer_id}
    parent = layers[layer_id].get("parent")
    while isinstance(parent, str) and parent and parent not in seen:
        yield parent
        seen.add(parent)
        parent = layers.get(parent, {}).get("parent")


def _is_shown(
    layer_id: str, lowers: Sequence[str], layers: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether a layer, or another one with the same content, is mounted: a store names equal layers
    once."""
    if layer_id in lowers:
        return True
    digest = layers.get(layer_id, {}).get("diff-digest")
    same = (layers.get(each, {}).get("diff-digest") for each in lowers)
    return digest is not None and digest in same
