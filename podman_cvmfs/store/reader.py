# SPDX-License-Identifier: Apache-2.0
"""Read a store back into records."""

from __future__ import annotations

import os
import sys
from typing import Any

from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.oci.documents import Digest, parse_json
from podman_cvmfs.settings.advice import repair_of
from podman_cvmfs.store.layout import (
    CURRENT,
    IMAGES,
    IMAGES_JSON,
    KNOWN_FORMATS,
    LAYERS,
    LAYERS_JSON,
    MAX_JSON,
    STATE,
    synthetic_diff_id,
)
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer
from podman_cvmfs.util.foreign_file import read_bounded


def read_store(store: str) -> StoreContent | None:
    """Read the current generation of the store in the directory ``store``.

    None if nothing has been written yet. Raises StoreError if the store can't be read, isn't ours,
    or is broken.
    """
    try:
        os.lstat(f"{store}/{CURRENT}")
    except FileNotFoundError:
        return None
    except OSError as err:
        raise StoreError(f"can't read the store {printable(store)}: {err.strerror}") from err
    state = _read(store, STATE)
    layers = _read(store, f"{LAYERS}/{LAYERS_JSON}")
    images = _read(store, f"{IMAGES}/{IMAGES_JSON}")
    if not isinstance(state, dict) or state.get("format") not in KNOWN_FORMATS:
        raise StoreError(
            f"the store {printable(store)} has another format than this version writes",
            f"update podman-cvmfs; or write the store anew: {repair_of(store)}",
        )
    try:
        return _join(state, layers, images)
    except (KeyError, TypeError, AttributeError, InputError) as err:
        raise StoreError(
            f"the store {printable(store)} is broken: {type(err).__name__}: {err}",
            f"repair it: {repair_of(store)}",
        ) from err


def _read(store: str, name: str) -> Any:
    path = f"{store}/{CURRENT}/{name}"
    try:
        data = read_bounded(path, MAX_JSON, follow=False)
    except OSError as err:
        hint = f"mend the store: {repair_of(store)}" if isinstance(err, FileNotFoundError) else None
        raise StoreError(f"can't read {printable(path)}: {err.strerror}", hint) from err
    try:
        return parse_json(data, printable(path))
    except InputError as err:
        raise StoreError(err.message, f"mend the store: {repair_of(store)}") from err


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
            exact=ours.get("exact", False),
            tar_split=ours.get("tar-split"),
            alone=ours.get("alone", False),
            outdated=ours.get("outdated", False),
            repository=sys.intern(ours.get("repository", "")),
            twin=ours.get("twin"),
            retired=ours.get("retired"),
            lowers=None if "lowers" not in ours else tuple(map(sys.intern, ours["lowers"])),
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
