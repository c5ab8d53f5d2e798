# SPDX-License-Identifier: Apache-2.0
"""Find the parts of a damaged store that can be saved. Reads the store, changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store import layout
from podman_cvmfs.store.records import (
    ImageFiles,
    LayerDirectory,
    Piece,
    StoreContent,
    StoredImage,
    chain_of,
)
from podman_cvmfs.verify.documents import Documents
from podman_cvmfs.verify.fault import Severity
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.pieces import check_piece
from podman_cvmfs.verify.record_reader import entry_id
from podman_cvmfs.verify.store import Verdict, examine

_POOLS = (layout.POOL_LAYERS, layout.POOL_IMAGES)
_NOBODYS = ".invalid/"


@dataclass(frozen=True)
class Salvage:
    """The good parts of a damaged store."""

    #: The content that can stay.
    content: StoreContent = field(default_factory=StoreContent)
    #: Entry of the pool that ``content`` needs -> its known content.
    layers: Mapping[str, LayerDirectory] = field(default_factory=dict)
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    images: Mapping[str, ImageFiles] = field(default_factory=dict)
    #: Correct entries of the pool.
    sound: frozenset[str] = frozenset()
    #: Names of images that must come from the repository; None if they are unknown.
    lost: tuple[str, ...] | None = None
    #: The policy of the store, maybe of an earlier version; None if it is lost.
    policy: Policy | None = None


def salvage(store: str, verdict: Verdict) -> Salvage:
    """Find the parts to save of the store at the path ``store``, whose faults are in ``verdict``.

    If the current generation's JSON isn't completely trustworthy, the generation before is used. It
    may have images that have been removed since, but no wrong ones.
    """
    told, names = verdict, verdict.documents.names
    trusted = _is_trusted(verdict)
    if not trusted:
        told = _generation_before(store)
        names = names or told.documents.names
    content = _kept(told, names)
    if not trusted:
        content = replace(content, retired_entries=_all_entries(store, content))
    known = told.documents.intact or names
    layers = {
        layer.entry: told.layers[key]
        for key, layer in content.layers.items()
        if layer.lowers is not None
    }
    needed = {key for layer in content.layers.values() for key in layer.lowers or ()}
    pieces = {told.pieces[key].entry: told.pieces[key] for key in needed}
    left = content.retired_entries.keys() - pieces.keys()
    sound, mendable, lost = _retired_pieces(store, filter(layout.piece_of_entry, left))
    pieces.update(mendable)
    content = replace(
        content,
        retired_entries={k: v for k, v in content.retired_entries.items() if k not in lost},
    )
    images = {image.entry: told.images[key] for key, image in content.images.items()}
    return Salvage(
        content=content,
        layers=layers,
        pieces=pieces,
        images=images,
        sound=frozenset(content.entries() - _damaged(store, told)) | sound,
        lost=tuple(sorted(_images_names(names) - set(content.names))) if known else None,
        policy=Policy.parse(verdict.documents.content.policy or content.policy),
    )


def _retired_pieces(
    store: str, entries: Iterable[str]
) -> tuple[set[str], dict[str, Piece], set[str]]:
    """Three things: the unchanged ones among the pool ``entries`` of pieces; the pieces that can be
    written again; and the entries whose content is unknown."""
    sound: set[str] = set()
    mendable: dict[str, Piece] = {}
    lost: set[str] = set()
    for entry in entries:
        look = Inspection(store)
        piece_id = layout.piece_of_entry(entry) or ""
        piece, _ = check_piece(look, f"{layout.POOL_LAYERS}/{entry}", piece_id)
        if piece is None:
            lost.add(entry)
        elif look.findings:
            mendable[entry] = piece
        else:
            sound.add(entry)
    return sound, mendable, lost


def good_configs(store: str, documents: Documents, content: StoreContent) -> list[bytes]:
    """The correct configs in the pool of images that ``content`` has lost."""
    look = Inspection(store)
    found = []
    for image_id, image in documents.content.images.items():
        if image_id not in content.images:
            name = big_data_file(f"sha256:{image_id}")
            data = look.read(f"{layout.POOL_IMAGES}/{image.entry}/{name}")
            if data is not None and Digest.of(data).hex == image_id:
                found.append(data)
    return found


def _is_trusted(verdict: Verdict) -> bool:
    """Whether the JSON is unchanged and has no fault."""
    wrong = any(
        finding.severity is Severity.ERROR and finding.path.endswith(".json")
        for finding in verdict.findings
    )
    return verdict.documents.intact and not wrong


def _generation_before(store: str) -> Verdict:
    """The verdict on the newest whole generation before the current one; an empty one without
    any."""
    place = f"{store}/{layout.GENERATIONS}"
    try:
        current = os.path.basename(os.readlink(f"{store}/{layout.CURRENT}"))
    except OSError:
        current = ""
    try:
        names = [name for name in os.listdir(place) if name.isdecimal() and name != current]
    except OSError:
        names = []
    for name in sorted(names, key=int, reverse=True):
        verdict = examine(Inspection(store), f"{layout.GENERATIONS}/{name}")
        if _is_trusted(verdict):
            return verdict
    return Verdict()


def _kept(verdict: Verdict, names: frozenset[str]) -> StoreContent:
    """The part of the store's content that is complete in the pool."""
    content = verdict.documents.content
    whole = verdict.layers.keys() - verdict.gone
    layers = {
        layer_id: layer
        for layer_id, layer in content.layers.items()
        if all(
            each.layer_id in whole and verdict.pieces.keys() >= {*(each.lowers or ())}
            for each in chain_of(content, layer_id)
        )
    }

    def stays(image: StoredImage) -> bool:
        if image.image_id not in verdict.images:
            return False
        if image.top_layer is not None and image.top_layer not in layers:
            return False
        own = {name for name, image_id in content.names.items() if image_id == image.image_id}
        return is_retired(image) or bool(own & names)

    images = {image_id: image for image_id, image in content.images.items() if stays(image)}
    return replace(
        content,
        images=images,
        layers=layers,
        names={name: key for name, key in content.names.items() if key in images},
    )


def _damaged(store: str, verdict: Verdict) -> set[str]:
    """The faulty entries of the pool."""
    found = set()
    for finding in verdict.findings:
        for pool in _POOLS:
            prefix = f"{store}/{pool}/"
            if finding.path.startswith(prefix):
                found.add(finding.path[len(prefix) :].partition("/")[0])
    return found


def _all_entries(store: str, content: StoreContent) -> dict[str, int]:
    """Everything in the pool that ``content`` doesn't use: containers may use it."""
    used = content.entries()
    now = int(time.time())
    found = dict(content.retired_entries)
    for pool in _POOLS:
        try:
            names = os.listdir(f"{store}/{pool}")
        except OSError:
            continue
        for name in names:
            if entry_id(name) is not None and name not in used:
                found.setdefault(name, now)
    return found


def _images_names(names: frozenset[str]) -> set[str]:
    """The ``names`` by which a user can ask for an image."""
    found = set()
    for name in names:
        try:
            parsed = parse_name(name)
        except InputError:
            continue
        if _NOBODYS not in name:
            found.add(str(parsed))
    return found
