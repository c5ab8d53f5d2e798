# SPDX-License-Identifier: Apache-2.0
"""What a store holds, as frozen dataclasses, and the JSON they become. Pure: no I/O.

Sources: containers/storage ``layers.go`` (``Layer``) and ``images.go`` (``Image``), 1.43 to 1.64;
``compression`` is ``pkg/archive``'s ``Compression`` (0 none, 2 gzip, 4 zstd). Fields that podman
does without are left out: parsing these two files is most of what ``podman run`` pays for a large
store. So is the second copy of the manifest that podman keeps as ``manifest-<digest>``: it looks
under ``manifest`` where there is none (containers/image ``storage_src.go``), and finds an image by
the ``digest`` of its record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from podman_cvmfs.oci import Digest
from podman_cvmfs.store.layout import (
    FORMAT,
    big_data_file,
    entry_key,
    link_name,
    synthetic_diff_id,
)

UNCOMPRESSED, GZIP, ZSTD = 0, 2, 4


@dataclass(frozen=True)
class Link:
    """A part of a layer that is a symbolic link to ``target``, an absolute path."""

    target: str


@dataclass(frozen=True)
class Node:
    """One file of a local part: a directory, or an overlay whiteout (device 0:0) that hides one.

    ``path`` is relative, "" is the part's root. ``mode`` holds the permission bits. ``owner`` (uid
    and gid) is set where the writer may, None leaves it the writer's; ``mtime_ns`` None leaves the
    time of writing. An ``opaque`` directory shows nothing of the parts and layers below.
    """

    path: str
    is_whiteout: bool = False
    mode: int = 0o755
    owner: tuple[int, int] | None = None
    mtime_ns: int | None = None
    opaque: bool = False


@dataclass(frozen=True)
class LocalPart:
    """A part of a layer that is a directory in the store, with these nodes, parents first."""

    nodes: tuple[Node, ...]


Part = Union[Link, LocalPart]


@dataclass(frozen=True)
class LayerDirectory:
    """What ``overlay/<layer id>`` holds: ``parts`` become diff, diff1, ..; ``lowers`` are the IDs
    of the layers below, nearest first. ``alone`` says that it shows what lies below its parent,
    too, and so is mounted without."""

    layer_id: str
    parts: tuple[Part, ...]
    lowers: tuple[str, ...] = ()
    alone: bool = False

    @property
    def entry(self) -> str:
        """The name of this directory in the pool."""
        made_from = (self.parts, self.lowers, *(("alone",) if self.alone else ()))
        return f"{self.layer_id}-{entry_key(repr(made_from).encode())}"

    @property
    def link(self) -> str:
        """Its name in ``overlay/l``."""
        return link_name(self.layer_id, self.alone)


@dataclass(frozen=True)
class ImageFiles:
    """What ``overlay-images/<image id>`` holds; ``index`` is the one that lists the manifest."""

    image_id: str
    manifest: bytes
    config: bytes
    index: bytes | None = None

    @property
    def manifest_digest(self) -> Digest:
        """The digest of the manifest's bytes."""
        return Digest.of(self.manifest)

    @property
    def entry(self) -> str:
        """The name of this directory in the pool."""
        content = b" ".join([self.manifest, self.config, self.index or b""])
        return f"{self.image_id}-{entry_key(content)}"

    def files(self) -> dict[str, bytes]:
        """File name -> content."""
        files = {
            "manifest": self.manifest,
            big_data_file(f"sha256:{self.image_id}"): self.config,
        }
        if self.index is not None:
            files[big_data_file(f"manifest-{Digest.of(self.index)}")] = self.index
        return files


@dataclass(frozen=True)
class StoredLayer:
    """A layer of the store.

    ``diff_id``, ``blob`` (its digest) and ``blob_size`` are set only where the layer may be found
    by its digests and so be reused by a pull. Sizes are in bytes.
    ``shows`` is the source ID of the image for which the layer is laid out (by its merged root or
    with its skeleton), None where the layer is just itself. ``merged`` says that it shows a merged
    root, with all that lies below the layer in it; it is ``alone`` if it has a parent none the
    less. ``repository`` is the directory that its files are in, "" where it has none. ``twin`` is
    the ID of the layer a pull finds by the digests of this one, which shows more than its own
    files. ``retired`` is the time (seconds since 1970) since which no image has needed the layer,
    None while one does.
    """

    layer_id: str
    entry: str
    parent: str | None
    diff_size: int
    diff_id: Digest | None = None
    blob: Digest | None = None
    blob_size: int = 0
    compression: int = UNCOMPRESSED
    shows: str | None = None
    merged: bool = False
    alone: bool = False
    repository: str = ""
    twin: str | None = None
    retired: int | None = None

    @property
    def link(self) -> str:
        """Its name in ``overlay/l``."""
        return link_name(self.layer_id, self.alone)


@dataclass(frozen=True)
class StoredImage:
    """An image of the store.

    ``repository`` is the directory it is from, ``published`` are its names as they are written
    there, ``source_id`` the ID given to it there (another one than ``image_id`` where the config is
    made up), ``view`` flat or layers, ``config_origin`` the step of the ladder its config came
    from, ``manifest_origin`` genuine or rebuilt. ``platform`` is what the config says it is for
    (``arm64/v8``), "" if it doesn't. ``index_digest`` and ``index_size`` are of the index that
    lists the manifest, if that is known. ``sources`` are the source IDs of the names in
    ``published``, one each, where those are not all ``source_id``. ``outdated`` says that it is
    laid out under another policy than the store's: it couldn't be had since that changed.
    """

    image_id: str
    entry: str
    repository: str
    source_id: str
    published: tuple[str, ...]
    top_layer: str | None
    created: str
    manifest_digest: str
    manifest_size: int
    config_size: int
    view: str
    config_origin: str
    manifest_origin: str
    platform: str = ""
    index_digest: str | None = None
    index_size: int = 0
    sources: tuple[str, ...] = ()
    outdated: bool = False

    @property
    def source_of(self) -> Mapping[str, str]:
        """The source ID of each name in ``published``."""
        sources = self.sources or (self.source_id,) * len(self.published)
        return dict(zip(self.published, sources))

    @property
    def all_sources(self) -> frozenset[str]:
        """All source IDs by which repositories know the image."""
        return frozenset(self.sources) | {self.source_id}


@dataclass(frozen=True)
class StoreContent:
    """Everything in one generation.

    ``policy`` is what was chosen for all of it but the images that are outdated: a store under
    another one is laid out anew.
    ``names`` maps each podman name to an image ID. ``retired_entries`` are pool entries that
    containers may still use, with the time since which nothing in the store leads to them.
    """

    policy: str = ""
    images: Mapping[str, StoredImage] = field(default_factory=dict)
    layers: Mapping[str, StoredLayer] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    retired_entries: Mapping[str, int] = field(default_factory=dict)

    def entries(self) -> set[str]:
        """The pool entries that images and layers lead to."""
        found = {image.entry for image in self.images.values()}
        found.update(layer.entry for layer in self.layers.values())
        return found


def to_json(value: object) -> bytes:
    """Compact JSON; the writers below give equal bytes for equal content.

    In ASCII, since a repository's path may hold bytes that are no text.
    """
    return json.dumps(value, separators=(",", ":")).encode()


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
    """The whole of state.json: content that can't be told from the other two files."""
    layers = (
        (layer_id, _layer_state(content.layers[layer_id])) for layer_id in sorted(content.layers)
    )
    images = (
        (image_id, _image_state(content.images[image_id])) for image_id in sorted(content.images)
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


def _layer_state(layer: StoredLayer) -> dict[str, Any]:
    state: dict[str, Any] = {"entry": layer.entry}
    if layer.shows is not None:
        state["shows"] = layer.shows
    if layer.merged:
        state["merged"] = True
    if layer.alone:
        state["alone"] = True
    if layer.repository:
        state["repository"] = layer.repository
    if layer.twin is not None:
        state["twin"] = layer.twin
    if layer.retired is not None:
        state["retired"] = layer.retired
    return state


def _image_state(image: StoredImage) -> dict[str, Any]:
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
