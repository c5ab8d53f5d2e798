# SPDX-License-Identifier: Apache-2.0
"""Writes the JSON files of a generation. Pure: no I/O.

Sources: containers/storage ``layers.go`` (``Layer``) and ``images.go`` (``Image``), 1.43 to 1.64;
``compression`` is ``pkg/archive``'s ``Compression`` (0 none, 2 gzip, 4 zstd). Fields that podman
does without are left out: parsing these two files is most of what ``podman run`` pays for a large
store. So is the second copy of the manifest that podman keeps as ``manifest-<digest>``: it looks
under ``manifest`` where there is none (containers/image ``storage_src.go``), and finds an image by
the ``digest`` of its record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from podman_cvmfs.store.layout import FORMAT, synthetic_diff_id
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer

#: Made once: a store has thousands of records.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def to_json(value: object) -> bytes:
    """Compact JSON; the writers below give equal bytes for equal content.

    In ASCII, since a repository's path may hold bytes that are no text.
    """
    return _ENCODER.encode(value).encode()


def _array(records: Iterable[dict[str, Any]]) -> bytes:
    """A JSON array, record by record: as objects, those of 10,000 images fill 100 MB."""
    return b"[" + b",".join(map(to_json, records)) + b"]"


def layer_json(layer: StoredLayer) -> dict[str, Any]:
    """The layer's entry in layers.json."""
    record: dict[str, Any] = {"id": layer.layer_id}
    if layer.parent is not None:
        record["parent"] = layer.parent
    if layer.diff_id is None:
        record["diff-digest"] = synthetic_diff_id(layer.layer_id)
    else:
        record["diff-digest"] = str(layer.diff_id)
        if layer.blob is not None:
            record["compressed-diff-digest"] = str(layer.blob)
            record["compressed-size"] = layer.blob_size
            record["compression"] = layer.compression
    record["diff-size"] = layer.diff_size
    return record


def image_json(image: StoredImage, names: Iterable[str]) -> dict[str, Any]:
    """The image's entry in images.json."""
    config = f"sha256:{image.image_id}"
    record: dict[str, Any] = {
        "id": image.image_id,
        "digest": image.manifest_digest,
        "names": sorted(names),
        "created": image.created,
        "big-data-names": [config, "manifest"],
        "big-data-sizes": {
            config: image.config_size,
            "manifest": image.manifest_size,
        },
        "big-data-digests": {
            config: config,
            "manifest": image.manifest_digest,
        },
    }
    if image.index_digest is not None:
        index = f"manifest-{image.index_digest}"
        record["big-data-names"].append(index)
        record["big-data-sizes"][index] = image.index_size
        record["big-data-digests"][index] = image.index_digest
    if image.top_layer is not None:
        record["layer"] = image.top_layer
    return record


def layers_json(content: StoreContent) -> bytes:
    """The whole of layers.json, parents before children as containers/storage writes them."""
    ordered: dict[str, StoredLayer] = {}

    def add(layer: StoredLayer) -> None:
        chain = []
        while layer.layer_id not in ordered:
            chain.append(layer)
            if layer.parent is None or layer.parent not in content.layers:
                break
            layer = content.layers[layer.parent]
        for link in reversed(chain):
            ordered[link.layer_id] = link

    for layer_id in sorted(content.layers):
        add(content.layers[layer_id])
    return _array(layer_json(layer) for layer in ordered.values())


def images_json(content: StoreContent) -> bytes:
    """The whole of images.json, in order of image ID."""
    names: dict[str, list[str]] = {image_id: [] for image_id in content.images}
    for name, image_id in content.names.items():
        names[image_id].append(name)
    return _array(
        image_json(content.images[image_id], names[image_id]) for image_id in sorted(names)
    )


def state_json(content: StoreContent) -> bytes:
    """The whole of state.json: everything that is not in the other two files."""
    layers = (
        (layer_id, layer_state(content.layers[layer_id])) for layer_id in sorted(content.layers)
    )
    images = (
        (image_id, image_state(content.images[image_id])) for image_id in sorted(content.images)
    )
    parts = {
        "format": to_json(FORMAT),
        "policy": to_json(content.policy),
        "images": _object(images),
        "layers": _object(layers),
        "retired": to_json(dict(sorted(content.retired_entries.items()))),
    }
    return b"{" + b",".join(to_json(key) + b":" + data for key, data in parts.items()) + b"}"


def _object(members: Iterable[tuple[str, dict[str, Any]]]) -> bytes:
    """A JSON object, member by member, like ``_array``."""
    return b"{" + b",".join(to_json(key) + b":" + to_json(data) for key, data in members) + b"}"


def layer_state(layer: StoredLayer) -> dict[str, Any]:
    """The entry of a layer in ``state.json``."""
    state: dict[str, Any] = {"entry": layer.entry}
    if layer.shows is not None:
        state["shows"] = layer.shows
    if layer.merged:
        state["merged"] = True
    if layer.exact:
        state["exact"] = True
    if layer.tar_split is not None:
        state["tar-split"] = layer.tar_split
    if layer.alone:
        state["alone"] = True
    if layer.lowers is not None:
        state["lowers"] = list(layer.lowers)
    if layer.outdated:
        state["outdated"] = True
    if layer.repository:
        state["repository"] = layer.repository
    if layer.twin is not None:
        state["twin"] = layer.twin
    if layer.retired is not None:
        state["retired"] = layer.retired
    return state


def image_state(image: StoredImage) -> dict[str, Any]:
    """The entry of an image in ``state.json``."""
    state: dict[str, Any] = {
        "entry": image.entry,
        "repository": image.repository,
        "source": image.source_id,
        "published": list(image.published),
        "view": image.view,
        "config": image.config_origin,
        "manifest": image.manifest_origin,
        "platform": image.platform,
    }
    if image.sources:
        state["sources"] = list(image.sources)
    if image.outdated:
        state["outdated"] = True
    return state
