# SPDX-License-Identifier: Apache-2.0
"""Examine the layers of a store: records, links, and directories in the pool."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from podman_cvmfs.store import layout
from podman_cvmfs.store.records import (
    LayerDirectory,
    Link,
    Part,
    Piece,
    StoreContent,
    StoredLayer,
)
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.parts import read_part, readings
from podman_cvmfs.verify.pieces import TARGET, check_owners, check_piece
from podman_cvmfs.verify.record_reader import LAYERS_PATH
from podman_cvmfs.view import EMPTY, image_layer_id, stand_in_id


@dataclass
class Layers:
    """The layers that were examined.

    ``directories`` are the descriptions of those whose directories are as they were written, by
    layer ID, and ``pieces`` those of the pieces. ``sound`` have all their ancestors.
    """

    sound: set[str]
    directories: dict[str, LayerDirectory] = field(default_factory=dict)
    pieces: dict[str, Piece] = field(default_factory=dict)


def check_layers(look: Inspection, generation: str, content: StoreContent) -> Layers:
    """Examine all layers of ``content``, which is what ``generation`` holds."""
    found = Layers(_check_parents(look, generation, content))
    overlay = f"{generation}/{layout.OVERLAY}"
    shown: dict[str, Part] = {}
    for piece_id in sorted(content.pieces()):
        entry = f"{layout.POOL_LAYERS}/{layout.piece_entry(piece_id)}"
        _check_place(look, overlay, piece_id, entry, layout.link_name(piece_id))
        piece, on_disk = check_piece(look, entry, piece_id)
        if on_disk is not None:
            shown[piece_id] = on_disk
        if piece is not None:
            found.pieces[piece_id] = piece
    for layer_id, layer in content.layers.items():
        entry = f"{layout.POOL_LAYERS}/{layer.entry}"
        _check_place(look, overlay, layer_id, entry, layer.link)
        directory = _directory(look, entry, layer)
        if directory is not None:
            found.directories[layer_id] = directory
        for what in _contradictions(layer, shown):
            look.error(f"{generation}/{LAYERS_PATH}", f"layer {layer_id} {what}")
    return found


def _check_place(look: Inspection, overlay: str, identifier: str, entry: str, link: str) -> None:
    look.link(f"{overlay}/{identifier}", f"../../../{entry}")
    look.link(f"{overlay}/l/{link}", f"../{identifier}/diff")


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


def _directory(look: Inspection, entry: str, layer: StoredLayer) -> LayerDirectory | None:
    """The layer's directory in the pool, if it is as it was written. One of layout 4 is only looked
    for: it stays for what stands on it, and the next sync lays its image out anew."""
    names = look.names(entry)
    if names is None:
        return None
    link = look.read(f"{entry}/link")
    if link is not None and link != layer.link.encode():
        look.error(f"{entry}/link", f"holds {link[:40]!r}, not {layer.link}")
    if layer.lowers is None:
        return LayerDirectory(layer.layer_id, EMPTY)
    below = "lower" if layer.lowers else "empty"
    look.no_others(entry, names, {"link", "diff", below})
    right = True
    if layer.lowers:
        lower = look.read(f"{entry}/lower")
        right = lower == layout.lower_of(layer.lowers).encode()
        if lower is not None and not right:
            look.error(f"{entry}/lower", "doesn't name what the layer mounts")
    else:
        look.no_others(f"{entry}/empty", look.names(f"{entry}/empty") or set(), ())
    part = read_part(look, entry)
    if part is None or not right:
        return None
    for each in readings(part):
        written = LayerDirectory(layer.layer_id, each, layer.lowers)
        if written.entry == layer.entry:
            check_owners(look, f"{entry}/diff", part, each)
            return written
    look.error(entry, "isn't as it was written: its name has another checksum")
    return None


def _contradictions(layer: StoredLayer, shown: Mapping[str, Part]) -> Iterator[str]:
    """Where a layer's record and what it mounts don't go together, as ends of sentences."""
    if layer.lowers is None:
        return
    if not layer.lowers:
        if layer.layer_id != stand_in_id(layer.parent):
            yield "shows nothing, but doesn't stand in for another one"
        elif layer.diff_size or layer.shows or layer.merged:
            yield "stands in for another one, but isn't empty"
        return
    if (layer.shows is not None) != (layer.layer_id == image_layer_id(layer.lowers, layer.parent)):
        yield "has the ID of a layer that shows an image, or not, against what the state says"
    parts = [shown[each] for each in layer.lowers if each in shown]
    links = [part.target for part in parts if isinstance(part, Link)]
    if not links and len(parts) == len(layer.lowers):
        yield "shows no files"
    for again in sorted({each for each in links if links.count(each) > 1}):
        yield f"mounts {again!r} twice, which the kernel refuses"
    targets = [TARGET.match(each) for each in links]
    for link, target in zip(links, targets):
        yield from _wrong_target(layer, link, target)
    if layer.merged and len(links) > 1:
        yield "shows a merged root and yet mounts other files"
    if layer.diff_id is not None:
        yield from _advertised(layer, links, targets)


def _wrong_target(layer: StoredLayer, link: str, target: re.Match[str] | None) -> Iterator[str]:
    if target is None:
        yield f"shows {link!r}, which isn't a layer or merged root of a repository"
    elif layer.merged != (target["blob"] is None):
        yield "shows a merged root, or not, against what the state says"
    elif layer.repository and layer.repository != target["root"]:
        yield f"shows files of {target['root']}, not of {layer.repository}"
    elif target["source"] is not None and layer.shows != target["source"]:
        yield f"shows the merged root of {target['source']}, not of {layer.shows}"


def _advertised(
    layer: StoredLayer, links: list[str], targets: list[re.Match[str] | None]
) -> Iterator[str]:
    """Whoever finds a layer by its digests takes what it shows, unchecked."""
    only = targets[0] if len(targets) == 1 else None
    if links and (only is None or only["blob"] is None or layer.merged):
        yield "is advertised by its digests, but isn't shown by its own files alone"
    elif only is not None and (layer.blob is None or layer.blob.hex != only["blob"]):
        yield f"is advertised as {layer.blob}, but shows sha256:{only['blob']}"
    assert layer.diff_id is not None
    if layer.layer_id != _chained(layer.parent, layer.diff_id.hex):
        yield f"hasn't the ID that {layer.diff_id} gets on its parent"


def _chained(parent: str | None, diff_hex: str) -> str:
    if parent is None:
        return diff_hex
    return hashlib.sha256(f"{parent}+{diff_hex}".encode()).hexdigest()
