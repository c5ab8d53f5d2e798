# SPDX-License-Identifier: Apache-2.0
"""Read the records of a generation one by one, and note each fault.

``store.reader`` is for sound stores and stops at the first mistake. This reader goes on, and leaves
malformed records out of its result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.times import normal_time
from podman_cvmfs.resolve.config import CACHE, REGISTRY, REPOSITORY, SYNTHESISED
from podman_cvmfs.resolve.manifest import CONVERTED, GENUINE, REBUILT, UNANSWERED
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.settings.policy import Policy, View
from podman_cvmfs.store.json_files import image_json, image_state, layer_json, layer_state
from podman_cvmfs.store.layout import (
    IMAGES,
    IMAGES_JSON,
    LAYERS,
    LAYERS_JSON,
    STATE,
    synthetic_diff_id,
)
from podman_cvmfs.store.records import GZIP, UNCOMPRESSED, ZSTD, StoredImage, StoredLayer
from podman_cvmfs.verify.fault import Kind
from podman_cvmfs.verify.inspection import Inspection

LAYERS_PATH = f"{LAYERS}/{LAYERS_JSON}"
IMAGES_PATH = f"{IMAGES}/{IMAGES_JSON}"

_ID = re.compile(r"[0-9a-f]{64}\Z")
_ENTRY = re.compile(r"([0-9a-f]{64})-[0-9a-f]{16}\Z")
_ORIGINS = (CACHE, REPOSITORY, REGISTRY, SYNTHESISED)
_NONE: dict[str, Any] = {}


class _WrongError(Exception):
    """The fault of a record."""


def entry_id(entry: str) -> str | None:
    """The ID in the name ``entry`` of a pool entry; None for any other name."""
    match = _ENTRY.match(entry)
    return match.group(1) if match else None


def _get(record: Mapping[str, Any], key: str, kind: type, default: Any = ...) -> Any:
    value = record.get(key, default)
    if value is ...:
        raise _WrongError(f"has no {key}")
    # To Python a bool is an int, but not here.
    if value is not default and type(value) is not kind:
        raise _WrongError(f"has a {key} that isn't a {kind.__name__}")
    if kind is int and isinstance(value, int) and value < 0:
        raise _WrongError(f"has a negative {key}")
    if kind is int and isinstance(value, int) and value >= 1 << 63:
        raise _WrongError(f"has a {key} too large for podman")
    return value


def _hex_id(value: object, what: str) -> str:
    if not isinstance(value, str) or not _ID.match(value):
        raise _WrongError(f"has a malformed {what}: {str(value)[:80]!r}")
    return value


def _hex_id_or_none(value: object, what: str) -> str | None:
    return None if value is None else _hex_id(value, what)


def _lowers(ours: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The pieces of a layer; None for one of layout 4."""
    if "lowers" not in ours:
        return None
    return tuple(_hex_id(each, "piece") for each in _get(ours, "lowers", list))


def _digest(value: object, what: str) -> Digest:
    try:
        return Digest.parse(value, what)
    except InputError as err:
        raise _WrongError(err.message) from None


class RecordReader:
    """Makes records of ours from those of one generation."""

    def __init__(
        self, look: Inspection, generation: str, state: Mapping[str, Any], has_state: bool
    ) -> None:
        self._look = look
        self._generation = generation
        self._state = state
        self._has_state = has_state

    def _error(self, name: str, what: str) -> None:
        self._look.error(f"{self._generation}/{name}", what)

    def _ours(self, kind: str) -> Mapping[str, Any]:
        """The part of the state on ``kind``: layers, images or retired entries."""
        value = self._state.get(kind)
        if isinstance(value, dict):
            return value
        if self._has_state:
            self._error(STATE, f"has no object with the key {kind}")
        return _NONE

    def policy(self) -> str:
        """The policy the store was laid out under; "" in one that never had an image."""
        policy = self._state.get("policy")
        found = Policy.parse(policy) if isinstance(policy, str) else None
        if found is not None and not found.has_pieces:
            what = "is of an earlier version: layers of that layout are only partly checked"
            place = f"{self._generation}/{STATE}"
            self._look.warning(Kind.FORMER_LAYOUT, place, what, on_store(self._look.store, "sync"))
            return str(found)
        if policy == "" or (found is not None and found.is_written):
            return str(policy)
        if self._has_state:
            self._error(STATE, f"has a malformed policy: {str(policy)[:100]!r}")
        return ""

    def _entry(self, ours: Mapping[str, Any], identifier: str) -> str:
        entry: str = _get(ours, "entry", str)
        if entry_id(entry) != identifier:
            raise _WrongError(f"has a malformed entry: {entry[:100]!r}")
        return entry

    def _each(self, records: list[Any], kind: str, path: str) -> list[tuple[str, Any, Any]]:
        """The ID and both records, podman's and ours, of everything that has both, each once."""
        ours = self._ours(kind)
        found: dict[str, tuple[str, Any, Any]] = {}
        for number, record in enumerate(records):
            try:
                if not isinstance(record, dict):
                    raise _WrongError("isn't an object")
                identifier = _hex_id(record.get("id"), "id")
            except _WrongError as err:
                self._error(path, f"record {number} {err}")
                continue
            if identifier in found:
                self._error(path, f"has {identifier} twice")
            elif isinstance(ours.get(identifier), dict):
                found[identifier] = identifier, record, ours[identifier]
            elif self._has_state:
                self._error(path, f"has {identifier}, which is not in {STATE}")
        for identifier in ours:
            if records and identifier not in found:
                self._error(STATE, f"has {kind[:-1]} {identifier}, which is not in {path}")
        return list(found.values())

    def layers(self, records: list[Any]) -> dict[str, StoredLayer]:
        """The layers that can be understood."""
        found = {}
        for layer_id, record, ours in self._each(records, "layers", LAYERS_PATH):
            try:
                layer = self._layer(layer_id, record, ours)
                found[layer_id] = layer
                _compare(layer_json(layer), record)
                _refuse_unknown(layer_state(layer), ours)
            except _WrongError as err:
                self._error(LAYERS_PATH, f"layer {layer_id} {err}")
        return found

    def _layer(self, layer_id: str, record: Any, ours: Any) -> StoredLayer:
        diff_digest = _get(record, "diff-digest", str)
        blob = _get(record, "compressed-diff-digest", str, None)
        compression = _get(record, "compression", int, 0)
        if compression not in (UNCOMPRESSED, GZIP, ZSTD):
            raise _WrongError(f"has an unknown compression: {compression}")
        return StoredLayer(
            layer_id=layer_id,
            entry=self._entry(ours, layer_id),
            parent=_hex_id_or_none(record.get("parent"), "parent"),
            diff_size=_get(record, "diff-size", int),
            diff_id=None
            if diff_digest == synthetic_diff_id(layer_id)
            else _digest(diff_digest, "diff-digest"),
            blob=None if blob is None else _digest(blob, "compressed-diff-digest"),
            blob_size=_get(record, "compressed-size", int, 0),
            compression=compression,
            shows=_hex_id_or_none(ours.get("shows"), "image shown"),
            merged=_get(ours, "merged", bool, False),
            exact=_get(ours, "exact", bool, False),
            tar_split=_hex_id_or_none(ours.get("tar-split"), "tar-split"),
            alone=_get(ours, "alone", bool, False),
            outdated=_get(ours, "outdated", bool, False),
            repository=_get(ours, "repository", str, ""),
            twin=_hex_id_or_none(ours.get("twin"), "twin"),
            retired=_get(ours, "retired", int, None),
            lowers=_lowers(ours),
        )

    def images(self, records: list[Any]) -> tuple[dict[str, StoredImage], dict[str, str]]:
        """The images that can be understood, and the names of all, name -> image ID."""
        found = {}
        names: dict[str, str] = {}
        for image_id, record, ours in self._each(records, "images", IMAGES_PATH):
            try:
                own = [name for name in _get(record, "names", list) if isinstance(name, str)]
                image = self._image(image_id, record, ours)
                found[image_id] = image
                for name in own:
                    other = names.setdefault(name, image_id)
                    if other != image_id:
                        raise _WrongError(f"has the name {name[:300]!r} of the image {other}")
                _compare(image_json(image, own), record)
                _refuse_unknown(image_state(image), ours)
            except _WrongError as err:
                self._error(IMAGES_PATH, f"image {image_id} {err}")
        return found, names

    def _image(self, image_id: str, record: Any, ours: Any) -> StoredImage:
        sizes = _get(record, "big-data-sizes", dict)
        published = _get(ours, "published", list)
        if not all(isinstance(path, str) for path in published):
            raise _WrongError(f"has names in {STATE} that aren't texts")
        sources = ours.get("sources", [])
        if not isinstance(sources, list) or len(sources) not in (0, len(published)):
            raise _WrongError(f"has more or fewer sources in {STATE} than names")
        created = _get(record, "created", str)
        if normal_time(created) != created:
            raise _WrongError(f"has a malformed time of creation: {created[:80]!r}")
        view, origin = _get(ours, "view", str), _get(ours, "config", str)
        if view not in (View.FLAT.value, View.LAYERS.value, View.EXACT.value):
            raise _WrongError(f"has the unknown view {view[:80]!r}")
        manifest_origin = _get(ours, "manifest", str)
        if manifest_origin not in (GENUINE, REBUILT, UNANSWERED, CONVERTED):
            raise _WrongError(f"has the unknown manifest origin {manifest_origin[:80]!r}")
        index = None
        for key in _get(record, "big-data-names", list):
            if isinstance(key, str) and key.startswith("manifest-"):
                index = str(_digest(key[len("manifest-") :], "index"))
        if origin not in _ORIGINS:
            raise _WrongError(f"has the unknown config origin {origin[:80]!r}")
        return StoredImage(
            image_id=image_id,
            entry=self._entry(ours, image_id),
            repository=_get(ours, "repository", str),
            source_id=_hex_id(ours.get("source"), "source"),
            published=tuple(published),
            top_layer=_hex_id_or_none(record.get("layer"), "layer"),
            created=created,
            manifest_digest=str(_digest(record.get("digest"), "digest")),
            manifest_size=_get(sizes, "manifest", int),
            config_size=_get(sizes, f"sha256:{image_id}", int),
            view=view,
            config_origin=origin,
            manifest_origin=manifest_origin,
            platform=_get({"platform": "", **ours}, "platform", str),
            index_digest=index,
            index_size=_get(sizes, f"manifest-{index}", int) if index else 0,
            sources=tuple(_hex_id(source, "source") for source in sources),
            outdated=_get(ours, "outdated", bool, False),
        )

    def retired(self) -> dict[str, int]:
        """The retired pool entries."""
        found: dict[str, int] = {}
        value = self._ours("retired")
        for entry, since in value.items():
            if entry_id(entry) is None or type(since) is not int or since < 0:
                self._error(STATE, f"has a malformed retired entry: {entry[:100]!r}")
            else:
                found[entry] = since
        return found


def _refuse_unknown(written: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise _WrongError for a key in our state that we don't write: it may be misspelt."""
    for key in sorted(ours.keys() - written.keys()):
        raise _WrongError(f"has {key[:80]!r} in {STATE}, which doesn't belong there")


def _compare(written: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raise _WrongError if a record differs from the one that we write for its content."""
    for key in sorted({*written, *record}):
        if key not in written:
            raise _WrongError(f"has {key[:80]!r}, which doesn't belong there")
        if written[key] != record.get(key):
            raise _WrongError(f"has a wrong {key}")
