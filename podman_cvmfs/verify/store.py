# SPDX-License-Identifier: Apache-2.0
"""Examine a whole store, without podman and without changing anything.

Only the current generation is examined. A sync may switch to another one meanwhile, and the sync
after that removes the examined one. Then the findings are worthless, and the examination starts
again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from podman_cvmfs.store import layout
from podman_cvmfs.store.records import ImageFiles, LayerDirectory, Piece
from podman_cvmfs.verify.documents import Documents, read_documents
from podman_cvmfs.verify.fault import Fault, Kind, Severity
from podman_cvmfs.verify.frame import (
    check_frame,
    check_generation,
    check_leftovers,
    check_locks,
    check_top,
    current_generation,
)
from podman_cvmfs.verify.images import check_images
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.layers import Layers, check_layers
from podman_cvmfs.verify.record_reader import IMAGES_PATH, LAYERS_PATH
from podman_cvmfs.verify.strangers import check_strangers
from podman_cvmfs.verify.targets import check_targets

_ATTEMPTS = 5


@dataclass(frozen=True)
class Verdict:
    """The result of an examination."""

    findings: tuple[Fault, ...] = ()
    #: The content of the store's JSON.
    documents: Documents = field(default_factory=Documents)
    #: Layer ID -> its directory as it was written, even if it has been changed since.
    layers: Mapping[str, LayerDirectory] = field(default_factory=dict)
    #: Piece ID -> the piece, if it is unchanged in the pool.
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    #: Image ID -> its documents, if they are unchanged in the pool.
    images: Mapping[str, ImageFiles] = field(default_factory=dict)
    #: The IDs of layers whose files have left the repository.
    gone: frozenset[str] = frozenset()

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)


def verify(store: str) -> Verdict:
    """Examine the store in the directory ``store``. All faults are in the result."""
    path = os.path.abspath(store)
    for attempt in range(_ATTEMPTS):
        look = Inspection(path)
        generation = current_generation(look)
        if generation is None:
            return Verdict(look.findings)
        verdict = examine(look, generation)
        if not verdict.errors or _still(path, generation) or attempt == _ATTEMPTS - 1:
            break
    return verdict


def glance(store: str) -> tuple[Fault, ...]:
    """Examine the store without its layers' targets: repositories aren't read."""
    look = Inspection(os.path.abspath(store))
    look.reads_blobs = False
    generation = current_generation(look)
    if generation is not None:
        _examine_inside(look, generation)
    return look.findings


def examine(look: Inspection, generation: str) -> Verdict:
    """Examine ``generation``, a directory of the store that ``look`` looks into."""
    documents, layers, images = _examine_inside(look, generation)
    if look.closed:
        what = "isn't checked, because it holds directories that you can't read"
        more = f"  (and {len(look.closed) - 1} more)" if look.closed[1:] else ""
        cure = f"nothing, or run {look.verify_as_owner()}"
        look.warning(Kind.UNCHECKED, look.closed[0], what + more, cure)
    if layers is None:
        return Verdict(look.findings, documents)
    gone = check_targets(look, documents.content, layers.pieces)
    return Verdict(look.findings, documents, layers.directories, layers.pieces, images, gone)


def _examine_inside(
    look: Inspection, generation: str
) -> tuple[Documents, Layers | None, Mapping[str, ImageFiles]]:
    check_frame(look)
    check_locks(look, generation)
    documents = read_documents(look, generation)
    content = documents.content
    check_top(look, content)
    if documents.read != {layout.STATE, LAYERS_PATH, IMAGES_PATH}:
        # Without all three of them nothing else can be checked.
        return documents, None, {}
    check_generation(look, generation, content)
    check_leftovers(look, generation, content)
    layers = check_layers(look, generation, content)
    check_strangers(look)
    return documents, layers, check_images(look, generation, content, layers)


def _still(store: str, generation: str) -> bool:
    try:
        return os.readlink(f"{store}/{layout.CURRENT}") == generation
    except OSError:
        return True
