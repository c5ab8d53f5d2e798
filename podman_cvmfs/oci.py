# SPDX-License-Identifier: Apache-2.0
"""Digests, manifests, image configurations and layer IDs. Pure: no I/O.

Sources: OCI image-spec v1.1 ``manifest.md``, ``config.md``, ``descriptor.md``; Docker image
manifest v2 schema 2; layer IDs as containers/image v5 ``storage/storage_dest.go`` computes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.platforms import Platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

#: Larger manifests and configs are refused; registries themselves stop at 4 MiB.
MAX_DOCUMENT = 4 * 1024 * 1024

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\Z")
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z", re.IGNORECASE
)
_ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, order=True)
class Digest:
    """A sha256 digest; ``hex`` is its 64 lower-case hexadecimal digits."""

    hex: str

    @classmethod
    def parse(cls, text: object, what: str = "digest") -> Digest:
        """Read ``sha256:<64 hex digits>``; InputError names ``what`` for anything else."""
        match = _SHA256.match(text) if isinstance(text, str) else None
        if match is None:
            shown = printable(text)[:100] if isinstance(text, str) else type(text).__name__
            raise InputError(f"{what} is not a sha256 digest: {shown!r}")
        return cls(match.group(1))

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


@dataclass(frozen=True)
class Descriptor:
    """A reference to a blob: media type, digest, and size in bytes."""

    media_type: str
    digest: Digest
    size: int

    @property
    def is_foreign(self) -> bool:
        """Whether this is a non-distributable (Windows base) layer, which nobody unpacks."""
        return "foreign" in self.media_type or "nondistributable" in self.media_type


@dataclass(frozen=True)
class Manifest:
    """An image manifest: its own media type, its config, and its layers, base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class ImageConfig:
    """The part of an image configuration that matters to a store, and its exact bytes."""

    raw: bytes
    digest: Digest
    diff_ids: tuple[Digest, ...]
    architecture: str
    os: str
    variant: str
    created: str
    working_dir: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()

    @property
    def platform(self) -> Platform:
        """What the image is for; the architecture is "" where the configuration doesn't say."""
        return Platform(self.architecture, self.variant)


def parse_json(data: bytes, what: str) -> Any:
    """Decode a JSON document; InputError names ``what`` if it is none, or nested too deeply."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        reason = "nested too deeply" if isinstance(err, RecursionError) else str(err)
        raise InputError(f"{what} is not valid JSON: {printable(reason)}") from None


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object, not {type(value).__name__}")
    return value


def _array(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{what} must be a JSON array, not {type(value).__name__}")
    return value


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{what} must be a string, not {type(value).__name__}")
    return value


def _descriptor(value: object, what: str, ducc: bool) -> Descriptor:
    entry = _object(value, what)
    keys = ("MediaType", "Digest", "Size") if ducc else ("mediaType", "digest", "size")
    size = entry.get(keys[2], 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InputError(f"the size of {what} must be a whole number of bytes")
    return Descriptor(
        media_type=_text(entry.get(keys[0]), f"the media type of {what}"),
        digest=Digest.parse(entry.get(keys[1]), f"the digest of {what}"),
        size=size,
    )


def parse_manifest(data: bytes, what: str = "manifest") -> Manifest:
    """Read an image manifest, OCI or Docker v2, or in DUCC's capitalised form.

    DUCC marshals a Go structure without JSON tags, so its keys are ``Config``, ``Layers``,
    ``MediaType``, ``Digest``, ``Size``. A manifest without a media type is an OCI one, as the
    OCI image-spec allows, unless its config says it is Docker's. Raises InputError.
    """
    document = _object(parse_json(data, what), what)
    ducc = "Config" in document and "config" not in document
    config_key, layers_key, type_key = (
        ("Config", "Layers", "MediaType") if ducc else ("config", "layers", "mediaType")
    )
    if config_key not in document:
        raise InputError(f"{what} is not an image manifest: it names no config")
    config = _descriptor(document[config_key], f"the config in {what}", ducc)
    layers = tuple(
        _descriptor(entry, f"layer {number} in {what}", ducc)
        for number, entry in enumerate(_array(document.get(layers_key), f"the layers in {what}"))
    )
    media_type = _text(document.get(type_key), f"the media type of {what}")
    if not media_type:
        media_type = DOCKER_MANIFEST if config.media_type == DOCKER_CONFIG else OCI_MANIFEST
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise InputError(f"{what} has the unsupported media type {printable(media_type)!r}")
    return Manifest(media_type, config, layers)


def _descriptor_json(descriptor: Descriptor, default_type: str) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type or default_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def render_manifest(manifest: Manifest) -> bytes:
    """Write ``manifest`` in the standard form; equal manifests give equal bytes.

    What DUCC's form has lost (annotations, key order, white space) stays lost, so the digest of
    the result differs from the digest of the manifest in the registry.
    """
    docker = manifest.media_type == DOCKER_MANIFEST
    layer_type = (DOCKER_LAYER + ".gzip") if docker else (OCI_LAYER + "+gzip")
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": _descriptor_json(manifest.config, DOCKER_CONFIG if docker else OCI_CONFIG),
        "layers": [_descriptor_json(layer, layer_type) for layer in manifest.layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def parse_config(data: bytes, what: str = "image configuration") -> ImageConfig:
    """Read an image configuration (OCI image-spec ``config.md``). Raises InputError."""
    document = _object(parse_json(data, what), what)
    rootfs = _object(document.get("rootfs"), f"rootfs in {what}")
    diff_ids = tuple(
        Digest.parse(entry, f"diff ID {number} in {what}")
        for number, entry in enumerate(_array(rootfs.get("diff_ids"), f"diff_ids in {what}"))
    )
    runtime = document.get("config")
    runtime = _object({} if runtime is None else runtime, f"config in {what}")
    volumes = runtime.get("Volumes")
    volumes = _object({} if volumes is None else volumes, f"Volumes in {what}")
    return ImageConfig(
        raw=data,
        digest=Digest.of(data),
        diff_ids=diff_ids,
        architecture=_text(document.get("architecture"), f"the architecture in {what}"),
        os=_text(document.get("os"), f"the os in {what}"),
        variant=_text(document.get("variant"), f"the variant in {what}"),
        created=normal_time(_text(document.get("created"), f"created in {what}")),
        working_dir=_text(runtime.get("WorkingDir"), f"WorkingDir in {what}"),
        user=_text(runtime.get("User"), f"User in {what}"),
        volumes=tuple(sorted(volumes)),
    )


def normal_time(text: str) -> str:
    """Return an RFC 3339 time as containers/storage writes it (UTC, ``Z``); junk gives year 1.

    containers/storage refuses a whole images.json for one time it can't parse, so nothing
    unchecked may pass.
    """
    match = _RFC3339.match(text)
    if match is None:
        return _ZERO_TIME
    seconds, fraction, zone = match.groups()
    try:
        zone = "+00:00" if zone in "Zz" else zone
        moment = datetime.fromisoformat(seconds.upper() + zone).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return _ZERO_TIME
    fraction = (fraction or "").rstrip("0")
    # isoformat, unlike strftime, always writes the year with four digits.
    return moment.replace(tzinfo=None).isoformat() + (f".{fraction}" if fraction else "") + "Z"


def layer_ids(diff_ids: Sequence[Digest]) -> tuple[str, ...]:
    """Return the layer IDs podman gives a chain of layers with these diff IDs, base first.

    The base has its diff ID; every other layer sha256(parent ID + "+" + diff ID), in hex
    (containers/image v5.24 ``storage_dest.go``, ``layerID``).
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            chain.append(hashlib.sha256(f"{chain[-1]}+{diff_id.hex}".encode()).hexdigest())
        else:
            chain.append(diff_id.hex)
    return tuple(chain)
