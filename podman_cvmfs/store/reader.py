# SPDX-License-Identifier: Apache-2.0
"""Read a store back into records."""

from __future__ import annotations

import os
import sys
from typing import Any

from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.oci import Digest, parse_json
from podman_cvmfs.store.layout import (
    CURRENT,
    FORMAT,
    IMAGES,
    IMAGES_JSON,
    LAYERS,
    LAYERS_JSON,
    STATE,
    synthetic_diff_id,
)
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer


def read_store(store: str) -> StoreContent | None:
    """Read the current generation of the store in the directory ``store``.

    None where nothing has been written yet. Raises StoreError where something is there that is
    not a store of ours, or a broken one.
    """
    if not os.path.lexists(f"{store}/{CURRENT}"):
        return None
    state = _read(f"{store}/{CURRENT}/{STATE}")
    layers = _read(f"{store}/{CURRENT}/{LAYERS}/{LAYERS_JSON}")
    images = _read(f"{store}/{CURRENT}/{IMAGES}/{IMAGES_JSON}")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise StoreError(
            f"the store {printable(store)} has another format than this version writes",
            "update podman-cvmfs, or remove the store and sync again",
        )
    try:
        return _join(state, layers, images)
    except (KeyError, TypeError, AttributeError, InputError) as err:
        raise StoreError(
            f"the store {printable(store)} is broken: {type(err).__name__}: {err}",
            "remove it and sync again",
        ) from err


def _read(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as err:
        raise StoreError(f"can't read {printable(path)}: {err.strerror}") from err
    try:
        return parse_json(data, printable(path))
    except InputError as err:
        raise StoreError(err.message, "remove the store and sync again") from err


def _join(
    state: dict[str, Any], layer_records: list[Any], image_records: list[Any]
) -> StoreContent:
    layers = {}
    for record in layer_records:
        layer_id = record["id"]
        ours = state["layers"][layer_id]
        advertised = record["diff-digest"] != synthetic_diff_id(layer_id)
        blob = record.get("compressed-diff-digest")
        layers[layer_id] = StoredLayer(
            layer_id=layer_id,
            entry=ours["entry"],
            parent=record.get("parent"),
            diff_size=record["diff-size"],
            diff_id=Digest.parse(record["diff-digest"]) if advertised else None,
            blob=Digest.parse(blob) if blob else None,
            blob_size=record.get("compressed-size", 0),
            compression=record.get("compression", 0),
            shows=ours.get("shows"),
            merged=ours.get("merged", False),
            alone=ours.get("alone", False),
            repository=sys.intern(ours.get("repository", "")),
            twin=ours.get("twin"),
            retired=ours.get("retired"),
        )
    images = {}
    names = {}
    for record in image_records:
        image_id = record["id"]
        ours = state["images"][image_id]
        sizes = record["big-data-sizes"]
        index = next((k[9:] for k in record["big-data-names"] if k.startswith("manifest-")), None)
        images[image_id] = StoredImage(
            image_id=image_id,
            entry=ours["entry"],
            repository=ours["repository"],
            source_id=ours["source"],
            published=tuple(ours["published"]),
            top_layer=record.get("layer"),
            created=record["created"],
            manifest_digest=record["digest"],
            manifest_size=sizes["manifest"],
            config_size=sizes[f"sha256:{image_id}"],
            view=ours["view"],
            config_origin=ours["config"],
            manifest_origin=ours["manifest"],
            platform=ours.get("platform", ""),
            index_digest=index,
            index_size=sizes[f"manifest-{index}"] if index else 0,
            sources=tuple(ours.get("sources", ())),
            outdated=ours.get("outdated", False),
        )
        names.update(dict.fromkeys(record["names"], image_id))
    return StoreContent(
        policy=state["policy"],
        images=images,
        layers=layers,
        names=names,
        retired_entries=state["retired"],
    )
