# SPDX-License-Identifier: Apache-2.0
"""Finds the containers and images that stand on layers of our store.

Sources: containers/storage 1.43 to 1.60 ``containers.go``, ``images.go``, ``layers.go`` (the JSON
files; newer versions have some of their own, ``volatile-*.json``, for containers made with
``--rm``) and ``drivers/overlay/overlay.go`` (``overlay/<layer id>/lower``). Nothing is locked: the
JSON files are replaced by renaming, and a container or image is written after its layer, so reading
the layers last misses none.

``lower`` tells more than the JSON files do: a container made when an image was shown by its layers
goes on mounting all of them after the store shows the image by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import parse_json
from podman_cvmfs.store.layout import Form, link_name
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.util.foreign_file import read_bounded

_CONTAINERS = (
    "overlay-containers/containers.json",
    "overlay-containers/volatile-containers.json",
)
_IMAGES = ("overlay-images/images.json",)
_LAYERS = ("overlay-layers/layers.json", "overlay-layers/volatile-layers.json")
#: Larger files are not read, in bytes; a layer takes about 500.
_MAX_JSON = 64 << 20
_MAX_LOWER = 64 << 10


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
        graphroot = _Graphroot(path)
        for layer_id, found in graphroot.users(content, links).items():
            users.setdefault(layer_id, set()).update(found)
        if graphroot.problem is not None:
            unreadable[path] = graphroot.problem
    return References(
        {layer_id: tuple(sorted(found)) for layer_id, found in sorted(users.items())}, unreadable
    )


class _Graphroot:
    """One graphroot while it is read. ``problem`` is the first thing that couldn't be."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.problem: str | None = None

    def users(self, content: StoreContent, links: Mapping[str, str]) -> dict[str, set[User]]:
        """Users by layer ID of ours. ``links`` are the link names of all our layers."""
        tops = []
        for kind, files in (("container", _CONTAINERS), ("image", _IMAGES)):
            for record in self._records(files):
                user = self._user(kind, record)
                tops.append((record.get("layer", ""), user))
                # In a user namespace a container may stand on a copy of its image's top layer.
                image = content.images.get(record.get("image", ""))
                if image is not None and image.top_layer is not None:
                    tops.append((image.top_layer, user))
        parents = {record["id"]: record.get("parent", "") for record in self._records(_LAYERS)}
        below = _Below(parents, self._lowers(links), frozenset(content.layers))
        found: dict[str, set[User]] = {}
        for top, user in tops:
            for layer_id in below.of(top):
                found.setdefault(layer_id, set()).add(user)
        # Layers that nobody has claimed: made by a process that is still at work or was killed, or
        # of containers that are recorded elsewhere (storage.conf's transient_store).
        for layer in below.unclaimed():
            for layer_id in below.of(layer):
                found.setdefault(layer_id, set()).add(User(self._path, "layer", layer[:12]))
        return found

    def _user(self, kind: str, record: Mapping[str, Any]) -> User:
        names = record.get("names")
        name = names[0] if isinstance(names, list) and names else record["id"][:12]
        return User(self._path, kind, str(name))

    def _records(self, files: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The records in JSON files that hold an array of objects."""
        for name in files:
            path = f"{self._path}/{name}"
            try:
                records = parse_json(read_bounded(path, _MAX_JSON), printable(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as err:
                self._fail(path, err.strerror or str(err))
                continue
            except InputError as err:
                self._fail(path, err.message)
                continue
            for record in records if isinstance(records, list) else [records]:
                # Go writes an empty array as null.
                if record is None:
                    continue
                if _is_record(record):
                    yield record
                else:
                    self._fail(path, "it holds something else than it should")

    def _lowers(self, links: Mapping[str, str]) -> dict[str, set[str]]:
        """Layer of the graphroot -> the layers of ours that it mounts."""
        found = {}
        overlay = f"{self._path}/overlay"
        try:
            with os.scandir(overlay) as entries:
                names = [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as err:
            self._fail(overlay, err.strerror or str(err))
            return {}
        for name in names:
            path = f"{overlay}/{name}/lower"
            try:
                lower = read_bounded(path, _MAX_LOWER).decode("utf-8", "replace")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as err:
                self._fail(path, err.strerror or str(err))
                continue
            ours = {
                links[link]
                for link in (part.rpartition("/")[2] for part in lower.strip().split(":"))
                if link in links
            }
            if ours:
                found[name] = ours
        return found

    def _fail(self, path: str, reason: str) -> None:
        path = printable(path)
        self.problem = self.problem or (reason if path in reason else f"{path}: {reason}")


def _is_record(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("id"), str)
        and isinstance(record.get("layer", ""), str)
        and isinstance(record.get("parent", ""), str)
        and isinstance(record.get("image", ""), str)
    )


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
