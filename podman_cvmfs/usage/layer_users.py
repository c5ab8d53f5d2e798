# SPDX-License-Identifier: Apache-2.0
"""Finds the containers and images that stand on layers of our store.

``foreign_store`` reads the JSON files. podman writes a container or image after its layer, so
reading the layers last misses none.

``overlay/<layer id>/lower`` tells more (containers/storage ``drivers/overlay/overlay.go``). A
container made when the store showed an image by its layers goes on mounting all of them after the
store shows the image by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import printable
from podman_cvmfs.store.layout import Form, link_name
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.foreign_store import ForeignStore, name_of


@dataclass(frozen=True, order=True)
class User:
    """Somebody who uses a layer: a ``kind`` (container, image, or layer, where it is only known
    that one is mounted on ours) with its name, or its ID cut short, in a graphroot."""

    graphroot: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {printable(self.name)} in {printable(self.graphroot)}"


@dataclass(frozen=True)
class References:
    """Who uses which layers and pieces of the store: ID -> its users.

    Layers that lie below a used one are only listed if they are named themselves. ``unreadable``
    maps graphroots of which a part couldn't be read to the reason: more may be used there.
    """

    layers: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


def references_to(content: StoreContent, graphroots: Sequence[str]) -> References:
    """Who in ``graphroots`` uses layers of ``content``.

    What is missing counts as empty; what can't be read or makes no sense is reported.
    """
    links = {link_name(piece_id): piece_id for piece_id in content.pieces()}
    links.update((link_name(key, form), key) for key in content.layers for form in Form)
    users: dict[str, set[User]] = {}
    unreadable = {}
    for path in graphroots:
        graphroot = ForeignStore(path)
        for layer_id, found in _users_in(graphroot, content, links).items():
            users.setdefault(layer_id, set()).update(found)
        if graphroot.problem is not None:
            unreadable[path] = graphroot.problem
    return References(
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
            # In a user namespace a container may stand on a copy of its image's top layer.
            image = content.images.get(record.get("image", ""))
            if image is not None and image.top_layer is not None:
                tops.append((image.top_layer, user))
    parents = {record["id"]: record.get("parent", "") for record in graphroot.layers()}
    below = _Below(parents, _lowers(graphroot, links), frozenset(content.layers))
    found: dict[str, set[User]] = {}
    for top, user in tops:
        for layer_id in below.of(top):
            found.setdefault(layer_id, set()).add(user)
    # Layers that nobody has claimed: made by a process that is still at work or was killed, or
    # of containers that are recorded elsewhere (storage.conf's transient_store).
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
        # A layer that the graphroot has itself, podman takes from there.
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
            # Layers on one chain share a set where nothing is added.
            below = below if mounted is None or below >= mounted else below | mounted
            self._below[each] = below
        return below

    def unclaimed(self) -> list[str]:
        """The layers that nobody has asked for yet."""
        return sorted((set(self._parents) | set(self._mounted)) - set(self._below))
