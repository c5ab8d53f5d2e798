# SPDX-License-Identifier: Apache-2.0
"""Examine the layers of a store: records, links, and directories in the pool."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from podman_cvmfs.store import layout
from podman_cvmfs.store.entries import retired_links
from podman_cvmfs.store.records import (
    LayerDirectory,
    Link,
    LocalPart,
    StoreContent,
    StoredLayer,
    chain_of,
)
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.parts import as_written, can_be_told, read_lower, read_parts
from podman_cvmfs.verify.record_reader import LAYERS_PATH
from podman_cvmfs.view import SPACER

#: What stands below a repository's root in the paths that layers link to.
TARGET = re.compile(
    r"(?P<root>/.*?)/(?:\.layers/(?P<l>[0-9a-f]{2})/(?P<blob>(?P=l)[0-9a-f]{62})/layerfs"
    r"|\.flat/(?P<f>[0-9a-f]{2})/(?P<source>(?P=f)[0-9a-f]{62})"
    r"|(?P<merged>\.images/(?:sha256:)?[0-9a-f]{2}/[0-9a-f]{62}))\Z"
)


@dataclass
class Layers:
    """The layers that were examined.

    ``directories`` are their directories as they are on disk, ``genuine`` the descriptions of those
    that are as they were written, both by layer ID. ``sound`` have all their ancestors.
    """

    sound: set[str]
    directories: dict[str, LayerDirectory] = field(default_factory=dict)
    genuine: dict[str, LayerDirectory] = field(default_factory=dict)


def check_layers(look: Inspection, generation: str, content: StoreContent) -> Layers:
    """Examine all layers of ``content``, which is what ``generation`` holds."""
    found = Layers(_check_parents(look, generation, content))
    by_link = {layer.link: layer_id for layer_id, layer in content.layers.items()}
    for name, retired in retired_links(look.store, content).items():
        by_link[name] = retired.partition("-")[0]
    for layer_id, layer in content.layers.items():
        overlay = f"{generation}/{layout.OVERLAY}"
        entry = f"{layout.POOL_LAYERS}/{layer.entry}"
        look.link(f"{overlay}/{layer_id}", f"../../../{entry}")
        look.link(f"{overlay}/l/{layer.link}", f"../{layer_id}/diff")
        directory = _directory(look, entry, layer, by_link)
        if directory is None:
            continue
        found.directories[layer_id] = directory
        written = as_written(directory, layer.entry)
        if written is None and not can_be_told(directory.parts, look.owner):
            found.genuine[layer_id] = directory
        elif written is None:
            look.error(entry, "isn't as it was written: its name has another checksum")
        else:
            found.genuine[layer_id] = written
            _check_owners(look, entry, directory, written)
        for what in _contradictions(layer, directory):
            look.error(f"{generation}/{LAYERS_PATH}", f"layer {layer_id} {what}")
    for layer_id in found.sound & set(found.directories):
        _check_lowers(look, content, content.layers[layer_id], found.directories)
    return found


def _check_parents(look: Inspection, generation: str, content: StoreContent) -> set[str]:
    """The IDs of the layers that have all their ancestors."""
    sound: set[str] = set()
    broken: set[str] = set()
    for start in content.layers:
        chain: list[str] = []
        seen: set[str] = set()
        current: str | None = start
        what = None
        while current is not None and current not in sound:
            if current in seen:
                what = "lies below itself"
            elif current not in content.layers:
                what = f"has the parent {current}, which is missing"
            elif current in broken:
                what = ""
            if what is not None:
                break
            seen.add(current)
            chain.append(current)
            current = content.layers[current].parent
        if what is None:
            sound.update(chain)
        else:
            broken.update(chain)
        if what:
            look.error(f"{generation}/{LAYERS_PATH}", f"layer {chain[-1]} {what}")
    return sound


def _directory(
    look: Inspection, entry: str, layer: StoredLayer, by_link: Mapping[str, str]
) -> LayerDirectory | None:
    """The layer's directory in the pool, as it is on disk."""
    names = look.names(entry)
    if names is None:
        return None
    parts = read_parts(look, entry, names)
    known = {"link", "lower", *(f"diff{number or ''}" for number in range(len(parts or ())))}
    if parts is not None and len(parts) == 1 and "lower" not in names:
        known.add("empty")
        look.no_others(f"{entry}/empty", look.names(f"{entry}/empty") or set(), ())
    look.no_others(entry, [name for name in names if parts or name[:4] != "diff"], known)
    link = look.read(f"{entry}/link")
    if link is not None and link != layer.link.encode():
        look.error(f"{entry}/link", f"holds {link[:40]!r}, not {layer.link}")
    lowers: list[str] = []
    if "lower" in names:
        data = look.read(f"{entry}/lower")
        links = None if data is None else read_lower(data)
        if links is None:
            if data is not None:
                look.error(f"{entry}/lower", "isn't a list of links")
            return None
        for name in links:
            if name in by_link:
                lowers.append(by_link[name])
            else:
                look.error(f"{entry}/lower", f"names the link l/{name}, which there isn't")
    if parts is None:
        return None
    return LayerDirectory(layer.layer_id, parts, tuple(lowers), layer.alone)


def _check_owners(
    look: Inspection, entry: str, directory: LayerDirectory, written: LayerDirectory
) -> None:
    """What of a local part has no owner of its own belongs to the store's."""
    for number, (part, made_from) in enumerate(zip(directory.parts, written.parts)):
        if isinstance(part, LocalPart) and isinstance(made_from, LocalPart):
            ours = {node.path for node in made_from.nodes if node.owner is None}
            for node in part.nodes:
                if node.owner is not None and node.path in ours and node.owner[0] != look.owner:
                    place = f"{entry}/diff{number or ''}/{node.path}".rstrip("/")
                    look.error(place, f"is owned by uid {node.owner[0]}, not {look.owner}")


def _contradictions(layer: StoredLayer, directory: LayerDirectory) -> Iterator[str]:
    """Where a layer's record and its directory don't go together, as ends of sentences."""
    links = [part.target for part in directory.parts if isinstance(part, Link)]
    target = TARGET.match(links[0]) if len(links) == 1 else None
    if layer.diff_id is not None:
        yield from _advertised(layer, directory)
        if layer.twin is not None:
            yield "has a twin, but is found by its own digests"
    if len(links) > 1:
        yield "shows more than one directory of a repository"
    elif not links:
        if layer.layer_id not in (stand_in_id(layer.parent), SPACER.layer_id):
            yield "shows nothing, but doesn't stand in for another one"
        elif layer.diff_size or layer.shows or layer.merged:
            yield "stands in for another one, but isn't empty"
    elif target is None:
        yield f"shows {links[0]!r}, which isn't a layer or merged root of a repository"
    elif layer.merged != (target["blob"] is None):
        yield "shows a merged root, or not, against what the state says"
    elif layer.repository and layer.repository != target["root"]:
        yield f"shows files of {target['root']}, not of {layer.repository}"
    elif target["source"] is not None and layer.shows != target["source"]:
        yield f"shows the merged root of {target['source']}, not of {layer.shows}"
    if layer.merged and set(directory.lowers) - {SPACER.layer_id}:
        yield "shows a merged root and yet mounts other layers below"


def _advertised(layer: StoredLayer, directory: LayerDirectory) -> Iterator[str]:
    """Whoever finds a layer by its digests takes what ``diff`` shows for it, unchecked."""
    only = directory.parts[0] if len(directory.parts) == 1 else None
    target = TARGET.match(only.target) if isinstance(only, Link) else None
    if target is None or target["blob"] is None or layer.merged:
        yield "is advertised by its digests, but isn't shown by its own files alone"
    elif layer.blob is None or layer.blob.hex != target["blob"]:
        yield f"is advertised as {layer.blob}, but shows sha256:{target['blob']}"
    assert layer.diff_id is not None
    if layer.layer_id != _chained(layer.parent, layer.diff_id.hex):
        yield f"hasn't the ID that {layer.diff_id} gets on its parent"


def _check_lowers(
    look: Inspection,
    content: StoreContent,
    layer: StoredLayer,
    directories: Mapping[str, LayerDirectory],
) -> None:
    """A layer mounts its ancestors, nearest first, but none whose files are mounted already."""
    directory = directories[layer.layer_id]
    place = f"{layout.POOL_LAYERS}/{layer.entry}/lower"
    lowers = directory.lowers
    if len(directory.parts) > 1 and not (layer.merged and layer.parent is not None):
        if lowers[:1] != (SPACER.layer_id,):
            look.error(place, "doesn't begin with the spacer: builds on the layer would lose files")
        lowers = tuple(each for each in lowers if each != SPACER.layer_id)
    if layer.merged or not any(isinstance(part, Link) for part in directory.parts):
        if lowers:
            look.error(place, "mounts other layers below one that has nothing below it")
        return
    ancestors = [each.layer_id for each in chain_of(content, layer.layer_id)[1:]]
    if any(each not in directories for each in ancestors):
        return
    targets = _targets(directory)
    for layer_id in lowers:
        again = targets & _targets(directories[layer_id])
        if again:
            look.error(place, f"mounts {min(again)!r} twice, which the kernel refuses")
        targets |= _targets(directories[layer_id])
    left = [each for each in ancestors if each in set(lowers)]
    if left != list(lowers):
        look.error(place, "doesn't name ancestors of the layer, each once and nearest first")
        return
    for each in ancestors:
        # A merged root doesn't tell of which layer it takes the place.
        if each not in left and not content.layers[each].merged:
            shown = _targets(directories[each])
            if shown and not shown <= targets:
                look.error(place, f"leaves out the layer {each}")


def _targets(directory: LayerDirectory) -> set[str]:
    """What the links lead to: layers by their digest, for several repositories may have one."""
    found = set()
    for part in directory.parts:
        if isinstance(part, Link):
            match = TARGET.match(part.target)
            found.add((match and match["blob"]) or part.target)
    return found


def stand_in_id(parent: str | None) -> str:
    """The ID of the empty layer that stands on ``parent`` for one that isn't shown."""
    return hashlib.sha256(f"podman-cvmfs stand-in on {parent}".encode()).hexdigest()


def private_id(layer_id: str) -> str:
    """The ID of the layer ``layer_id`` in a store from which no pull shall reuse it."""
    return hashlib.sha256(f"podman-cvmfs private {layer_id}".encode()).hexdigest()


def _chained(parent: str | None, diff_hex: str) -> str:
    if parent is None:
        return diff_hex
    return hashlib.sha256(f"{parent}+{diff_hex}".encode()).hexdigest()
