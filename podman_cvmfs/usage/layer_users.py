# SPDX-License-Identifier: Apache-2.0
"""Finds the containers and images that use layers of our store.

``foreign_store`` reads the JSON files. podman writes a container or image after its layer, so
reading the layers last misses none.

``overlay/<layer id>/lower`` tells more (containers/storage ``drivers/overlay/overlay.go``). A
container keeps the layers with which it was made. If the store later shows the image by one layer,
the container still mounts all the old ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import printable
from podman_cvmfs.store.layout import Form, link_name
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.foreign_store import ForeignStore, name_of, read_each, too_slow


@dataclass(frozen=True, order=True)
class User:
    """A user of a layer: its ``kind`` (container, image or layer), its name or shortened ID, and
    its graphroot. The kind is layer if only a layer on ours is known."""

    graphroot: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {printable(self.name)} in {printable(self.graphroot)}"


@dataclass(frozen=True)
class LayerUsers:
    """The users of layers and pieces of the store: ID -> users.

    A layer below a used one is listed only if somebody names it, too. ``unreadable`` maps
    graphroots that couldn't be read completely to the reason: they may use more.
    """

    layers: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


def find_layer_users(content: StoreContent, graphroots: Sequence[str]) -> LayerUsers:
    """Find who in ``graphroots`` uses layers of ``content``.

    Missing files count as empty. Unreadable or malformed ones are in the result, and so are
    graphroots that don't answer in time.
    """
    links = {link_name(piece_id): piece_id for piece_id in content.pieces()}
    links.update((link_name(key, form), key) for key in content.layers for form in Form)
    users: dict[str, set[User]] = {}
    unreadable = {}

    def look(graphroot: ForeignStore) -> tuple[dict[str, set[User]], str | None]:
        return _users_in(graphroot, content, links), graphroot.problem

    for path, answer in read_each(look, graphroots):
        found, problem = ({}, too_slow()) if answer is None else answer
        for layer_id, its in found.items():
            users.setdefault(layer_id, set()).update(its)
        if problem is not None:
            unreadable[path] = problem
    return LayerUsers(
        {layer_id: tuple(sorted(found)) for layer_id, found in sorted(users.items())}, unreadable
    )


def _users_in(
    graphroot: ForeignStore, content: StoreContent, links: Mapping[str, str]
) -> dict[str, set[User]]:
    """Users by layer ID of ours. ``links`` are the link names of all our layers."""
    tops = []
    for kind, records in (("container", graphroot.containers()), ("image", graphroot.images())):
        for record in records:
            user = User(graphroot.path, kind, name_of(record))
            tops.append((record.get("layer", ""), user))
            # In a user namespace a container may use a copy of its image's top layer.
            image = content.images.get(record.get("image", ""))
            if image is not None and image.top_layer is not None:
                tops.append((image.top_layer, user))
    parents = {record["id"]: record.get("parent", "") for record in graphroot.layers()}
    below = _Below(parents, _lowers(graphroot, links), frozenset(content.layers))
    found: dict[str, set[User]] = {}
    for top, user in tops:
        for layer_id in below.of(top):
            found.setdefault(layer_id, set()).add(user)
    # The remaining layers: a running or killed process made them, or their containers are recorded
    # elsewhere (storage.conf's transient_store).
    for layer in below.unclaimed():
        for layer_id in below.of(layer):
            found.setdefault(layer_id, set()).add(User(graphroot.path, "layer", layer[:12]))
    return found


def _lowers(graphroot: ForeignStore, links: Mapping[str, str]) -> dict[str, set[str]]:
    """Layer of the graphroot -> the layers of ours that it mounts."""
    found = {}
    for name in graphroot.overlay_names():
        lower = graphroot.overlay_text(name, "lower") or ""
        names = (part.rpartition("/")[2] for part in lower.split(":"))
        ours = {links[link] for link in names if link in links}
        if ours:
            found[name] = ours
    return found


class _Below:
    """Which layers of ours lie below each layer of a graphroot, by both kinds of evidence."""

    def __init__(
        self,
        parents: Mapping[str, str],
        mounted: Mapping[str, set[str]],
        known: frozenset[str],
    ) -> None:
        self._parents = parents
        self._mounted = mounted
        self._known = known
        self._below: dict[str, frozenset[str]] = {}

    def of(self, layer: str) -> frozenset[str]:
        """The IDs of ours below ``layer``, or ``layer`` itself if it is one of ours."""
        chain: dict[str, None] = {}
        # podman takes a layer from the graphroot if it has it.
        while layer in self._parents or layer in self._mounted:
            if layer in self._below or layer in chain:
                break
            chain[layer] = None
            layer = self._parents.get(layer, "")
        below = self._below.get(layer, frozenset())
        if layer not in self._parents and layer in self._known:
            below |= {layer}
        for each in reversed(list(chain)):
            mounted = self._mounted.get(each)
            # Layers of one chain share a set as long as nothing is added.
            below = below if mounted is None or below >= mounted else below | mounted
            self._below[each] = below
        return below

    def unclaimed(self) -> list[str]:
        """The layers that nobody has asked for yet."""
        return sorted((set(self._parents) | set(self._mounted)) - set(self._below))
