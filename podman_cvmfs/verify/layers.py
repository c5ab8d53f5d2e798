# SPDX-License-Identifier: Apache-2.0
"""Examine the layers of a store: records, links, and directories in the pool."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.plan.shown_layer import EMPTY, image_layer_id, stand_in_id
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store import layout
from podman_cvmfs.store.layout import SPACER_ID
from podman_cvmfs.store.records import (
    Data,
    LayerDirectory,
    Metadata,
    Part,
    Piece,
    StoreContent,
    StoredLayer,
    TarSplit,
    files_of_part,
)
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.metadata import check_tar_split
from podman_cvmfs.verify.parts import read_lower, read_part, readings
from podman_cvmfs.verify.pieces import TARGET, check_owners, check_piece
from podman_cvmfs.verify.record_reader import LAYERS_PATH


@dataclass
class Layers:
    """The examined layers.

    ``directories`` describe their directories as they should be, by layer ID. ``pieces`` are the
    unchanged pieces. ``shown`` is what each piece shows, as far as it can be read, by piece ID.
    ``sound`` are the IDs of the layers with all their ancestors.
    """

    sound: set[str]
    directories: dict[str, LayerDirectory] = field(default_factory=dict)
    pieces: dict[str, Piece] = field(default_factory=dict)
    shown: dict[str, Part] = field(default_factory=dict)


def check_layers(look: Inspection, generation: str, content: StoreContent) -> Layers:
    """Examine all layers of ``content``, the content of ``generation``."""
    found = Layers(_check_parents(look, generation, content))
    overlay = f"{generation}/{layout.OVERLAY}"
    # Retired entries may be closed in a store that was shared later.
    look.closable = frozenset(f"{layout.POOL_LAYERS}/{entry}" for entry in _only_retired(content))
    by_link = {layout.link_name(piece_id): piece_id for piece_id in content.pieces()}
    for piece_id in sorted(content.pieces()):
        entry = f"{layout.POOL_LAYERS}/{layout.piece_entry(piece_id)}"
        _check_place(look, overlay, piece_id, f"../../../{entry}", layout.link_name(piece_id))
        piece, on_disk = check_piece(look, entry, piece_id)
        if on_disk is not None:
            found.shown[piece_id] = on_disk
        if piece is not None:
            found.pieces[piece_id] = piece
    for layer_id, layer in content.layers.items():
        entry = f"{layout.POOL_LAYERS}/{layer.entry}"
        target = layout.layer_link(look.store, layer.entry, is_exact=layer.exact)
        _check_place(look, overlay, layer_id, target, layer.link)
        directory = _directory(look, f"{generation}/{layout.STATE}", layer, by_link, found.shown)
        if directory is not None:
            found.directories[layer_id] = directory
        for what in _contradictions(content, layer, found.shown):
            look.error(f"{generation}/{LAYERS_PATH}", f"layer {layer_id} {what}")
    return found


def _only_retired(content: StoreContent) -> set[str]:
    """The pool entries of retired layers and pieces."""
    used: set[str] = set()
    left = set(map(layout.piece_entry, content.pieces()))
    for layer in content.layers.values():
        entries = {layer.entry, *map(layout.piece_entry, layer.lowers or ())}
        (used if layer.retired is None else left).update(entries)
    return left - used


def _check_place(look: Inspection, overlay: str, identifier: str, target: str, link: str) -> None:
    look.link(f"{overlay}/{identifier}", target)
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


def _directory(
    look: Inspection,
    state: str,
    layer: StoredLayer,
    by_link: Mapping[str, str],
    shown: Mapping[str, Part],
) -> LayerDirectory | None:
    """The layer's directory in the pool, as it should be; None if that is unknown. A directory of
    layout 4 only has to exist: it stays for its users, and the next sync lays its image out anew.
    ``state`` is the file that lists the layer's mounts."""
    entry = f"{layout.POOL_LAYERS}/{layer.entry}"
    names = look.names(entry)
    link = None if names is None else look.read(f"{entry}/link")
    is_wrong = link is not None and link != layer.link.encode()
    if link is not None and is_wrong:
        look.error(f"{entry}/link", f"holds {link[:40]!r}, not {layer.link}")
    if layer.lowers is None:
        has_diff = names is not None and look.attributes(f"{entry}/diff") is not None
        is_whole = has_diff and link is not None and not is_wrong
        return LayerDirectory(layer.layer_id, EMPTY) if is_whole else None
    split = None
    if layer.tar_split is not None:
        # Its own files are those of the nearest piece.
        nearest = shown.get(layer.lowers[0]) if layer.lowers else None
        files = None if nearest is None else files_of_part(nearest)
        if files is None:
            return None
        split = TarSplit(layer.tar_split, files)
    written = LayerDirectory(layer.layer_id, EMPTY, layer.lowers, split)
    if written.entry != layer.entry:
        what = (
            f"lists other pieces for layer {layer.layer_id} than the layer's directory was "
            "written for"
        )
        look.error(state, what)
        return None
    if names is not None:
        known = {"link", "diff", "lower" if layer.lowers else "empty"}
        if split is not None:
            known |= {layout.FILES, layout.TAR_SPLIT}
            look.link(f"{entry}/{layout.FILES}", split.files)
            check_tar_split(look, f"{entry}/{layout.TAR_SPLIT}")
        look.no_others(entry, names, known)
        _check_below(look, entry, layer.lowers, by_link)
        part = read_part(look, entry)
        if part is not None and EMPTY not in readings(part):
            look.error(f"{entry}/diff", "should be an empty directory")
        check_owners(look, f"{entry}/diff", part, EMPTY)
    return written


def _check_below(
    look: Inspection, entry: str, lowers: Sequence[str], by_link: Mapping[str, str]
) -> None:
    """Examine the files that tell podman which pieces, ``lowers``, lie below a layer."""
    if not lowers:
        look.no_others(f"{entry}/empty", look.names(f"{entry}/empty") or set(), ())
        return
    data = look.read(f"{entry}/lower")
    if data is not None:
        for what in _wrong_lower(data, lowers, by_link):
            look.error(f"{entry}/lower", what)


def _wrong_lower(data: bytes, lowers: Sequence[str], by_link: Mapping[str, str]) -> Iterator[str]:
    """The faults of the content of a ``lower`` file, as ends of sentences."""
    if data == layout.lower_of(lowers).encode():
        return
    links = read_lower(data)
    if links is None:
        yield "isn't a list of links"
        return
    yield from (f"names l/{each}, which isn't a piece" for each in links if each not in by_link)
    yield from (f"names l/{each} twice" for each in sorted(set(links)) if links.count(each) > 1)
    named = [by_link[each] for each in links if each in by_link]
    yield from (f"leaves out the piece {each}" for each in lowers if each not in named)
    for each in sorted(set(named) - set(lowers)):
        yield f"names the piece {each}, which isn't the layer's"
    if sorted(named) == sorted(lowers) and len(named) == len(links):
        yield "doesn't name the layer's pieces nearest first"


def _contradictions(
    content: StoreContent, layer: StoredLayer, shown: Mapping[str, Part]
) -> Iterator[str]:
    """The contradictions between a layer's record and its mounts, as ends of sentences."""
    if layer.lowers is None:
        # The spacer never changes. Everything else of that layout is outdated, or stays for its
        # grace.
        is_kept = layer.outdated or layer.retired is not None or layer.layer_id == SPACER_ID
        policy = Policy.parse(content.policy)
        if (policy is None or policy.has_pieces) and not is_kept:
            yield f"has no list of the pieces that it mounts in {layout.STATE}"
        return
    if layer.diff_id is not None:
        if layer.twin is not None and layer.shows is None:
            yield "has a twin, but is found by its own digests"
        if layer.tar_split not in (None, layer.diff_id.hex):
            yield f"has the tar-split of {layer.tar_split}, but the diff ID {layer.diff_id}"
        # A layer that shows an image has an ID of its own. Its twin has the other one.
        genuine = layer.layer_id if layer.shows is None else layer.twin
        if genuine != _chained(layer.parent, layer.diff_id.hex):
            yield f"hasn't the ID that {layer.diff_id} gets on its parent"
    if not layer.lowers:
        if layer.layer_id != stand_in_id(layer.parent):
            yield "shows nothing, but isn't a stand-in"
        elif layer.diff_size or layer.shows or layer.merged:
            yield "is a stand-in, but isn't empty"
        return
    if (layer.shows is not None) != (layer.layer_id == image_layer_id(layer.lowers, layer.parent)):
        yield "has an ID that contradicts the state: only one of them says that it shows an image"
    for each in sorted({each for each in layer.lowers if layer.lowers.count(each) > 1}):
        yield f"mounts the piece {each} twice, which the kernel refuses"
    parts = [shown[each] for each in layer.lowers if each in shown]
    links = [target for target in map(files_of_part, parts) if target is not None]
    for each in sorted({each for each in links if links.count(each) > 1}):
        yield f"mounts {each!r} twice, which the kernel refuses"
    if not links and len(parts) == len(layer.lowers):
        yield "shows no files"
    targets = [TARGET.match(each) for each in links]
    for link, target in zip(links, targets):
        yield from _wrong_target(layer, link, target)
    yield from _wrong_metadata(layer, parts)
    if layer.merged and len(links) > 1:
        yield "shows a merged root, but also mounts other files"
    if layer.diff_id is not None:
        yield from _advertised(layer, links[:1] if layer.exact else links, targets)
    parent = content.layers.get(layer.parent or "")
    if layer.shows is None and parent is not None and len(parts) == len(layer.lowers):
        yield from _above_parent(shown_blobs(layer, shown), shown_blobs(parent, shown))


def _wrong_metadata(layer: StoredLayer, parts: Sequence[Part]) -> Iterator[str]:
    """podman mounts metadata only if the data's root lies below all of it. The kernel mounts
    nothing beside that root which lies in it."""
    has_metadata = any(isinstance(part, Metadata) for part in parts)
    if layer.tar_split is not None and not layer.exact:
        yield "has a tar-split, but doesn't show metadata of its own"
    if layer.exact and layer.tar_split is None and layer.diff_id is not None:
        yield "is advertised by its digests, but has no tar-split"
    if layer.exact != has_metadata and len(parts) == len(layer.lowers or ()):
        yield "contradicts the state, which says whether it shows metadata"
    if not has_metadata:
        return
    roots = {part.root for part in parts if isinstance(part, (Metadata, Data))}
    if not isinstance(parts[-1], Data) or len(roots) > 1:
        yield "shows metadata, but not the repository with the data at the bottom"
    elif not all(isinstance(part, Metadata) for part in parts[:-1]):
        yield "shows metadata and other files, which the kernel refuses"


def shown_blobs(layer: StoredLayer, shown: Mapping[str, Part]) -> list[str]:
    """The digests, in hexadecimal, of the unpacked layers that ``layer`` shows, nearest first. They
    are read from the targets of its pieces, as far as these are known."""
    parts = [shown[each] for each in layer.lowers or () if each in shown]
    found = [TARGET.match(files_of_part(part) or "") for part in parts]
    return [match["blob"] for match in found if match and match["blob"]]


def _above_parent(own: Sequence[str], below: Sequence[str]) -> Iterator[str]:
    """Whether a layer for pulls shows everything that its parent shows and one layer more. ``own``
    are the digests of the layers that it shows. A layer that is twice in an image is shown once.
    Other images may have the same layers with other compression, so only the numbers are
    compared."""
    if len(own) < len(below) + (not set(own[:1]) <= set(below)):
        yield "mounts fewer layers than its parent and itself"


def _wrong_target(layer: StoredLayer, link: str, target: re.Match[str] | None) -> Iterator[str]:
    if target is None:
        yield f"shows {link!r}, which isn't a layer or merged root of a repository"
    elif layer.merged != (target["blob"] is None):
        yield "contradicts the state, which says whether it shows a merged root"
    elif layer.repository and layer.repository != target["root"]:
        yield f"shows files of {target['root']}, not of {layer.repository}"
    elif target["source"] is not None and layer.shows != target["source"]:
        yield f"shows the merged root of {target['source']}, not of {layer.shows}"


def _advertised(
    layer: StoredLayer, links: list[str], targets: list[re.Match[str] | None]
) -> Iterator[str]:
    """A pull that finds a layer by its digests uses its files unchecked. ``links`` are the files
    that it gets."""
    only = targets[0] if len(links) == 1 else None
    if links and (only is None or only["blob"] is None or layer.merged):
        yield "is advertised by its digests, but shows other files, too"
    elif only is not None and (layer.blob is None or layer.blob.hex != only["blob"]):
        yield f"is advertised as {layer.blob}, but shows sha256:{only['blob']}"


def _chained(parent: str | None, diff_hex: str) -> str:
    if parent is None:
        return diff_hex
    return hashlib.sha256(f"{parent}+{diff_hex}".encode()).hexdigest()
