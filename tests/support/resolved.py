# SPDX-License-Identifier: Apache-2.0
"""Images as a sync has resolved them, and plans of them, without a repository."""

from __future__ import annotations

import json
from dataclasses import replace

from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.oci.documents import Descriptor, Digest, layer_ids, parse_config
from podman_cvmfs.plan.lay_out import ImageView, view_of
from podman_cvmfs.plan.make import Plan, make_plan, storable_image
from podman_cvmfs.plan.retirement import Retention
from podman_cvmfs.repository.whiteouts import DirectoryFacts, Markers
from podman_cvmfs.resolve.image import FlatRoot, Layer, ResolvedImage
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.store.records import LayerDirectory, Part, StoreContent

HUB = "registry.hub.docker.com/library"


def image(label: str, diffs: str, *, flat: bool = True, files: bool = True) -> ResolvedImage:
    """An image with one layer for each letter of ``diffs``; ``label`` makes its config unique."""
    diff_ids = [Digest.of(letter.encode()) for letter in diffs]
    document = {
        "config": {"Labels": {"l": label}},
        "rootfs": {"diff_ids": [str(diff_id) for diff_id in diff_ids]},
    }
    config = parse_config(json.dumps(document).encode())
    layers = tuple(
        Layer(
            layer_id,
            diff_id,
            Descriptor("tar+gzip", Digest.of(f"blob {letter}".encode()), 10),
            f"/r/.layers/{letter}" if files else None,
            100,
            skeleton=Skeleton(),
            own_skeleton=Skeleton(),
        )
        for letter, layer_id, diff_id in zip(diffs, layer_ids(diff_ids), diff_ids)
    )
    root = FlatRoot(f"/r/.flat/{config.digest.hex}", ("tmp",)) if flat else None
    return ResolvedImage(config.digest, config, "cache", b"{}", layers, root)


def plan(
    current: StoreContent,
    wanted: dict[str, ResolvedImage],
    now: int = 1000,
    new: str | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> Plan:
    """Plan for ``wanted`` (path -> image); only the image at ``new``, if given, is resolved."""
    storable = {
        found.source_id.hex: storable_image(found, view_of(found, policy), "/r")
        for path, found in wanted.items()
        if new in (None, path)
    }
    names = {parse_repository_path(path): found.source_id.hex for path, found in wanted.items()}
    return make_plan(current, names, storable, str(policy), Retention(now))


def below(view: ImageView, directory: LayerDirectory) -> list[Part]:
    """What a layer mounts, nearest first."""
    pieces = {piece.piece_id: piece.part for piece in view.pieces}
    return [pieces[each] for each in directory.lowers]


def looked_at(found: ResolvedImage, **markers: Markers) -> ResolvedImage:
    """``found``, with what its layers, by letter, delete: nothing unless it is given."""
    known = {f"/r/.layers/{letter}": each for letter, each in markers.items()}
    layers = [
        replace(layer, markers=known.get(layer.files or "", Markers())) for layer in found.layers
    ]
    return replace(found, layers=tuple(layers))


DELETES = [
    Markers(files=(".wh.x",), hidden=("x",), directories={"": DirectoryFacts(0o755, 0, 0, 0)}),
    Markers(native=True),
    Markers(unread=("root",)),
]
