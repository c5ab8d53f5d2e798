# SPDX-License-Identifier: Apache-2.0
"""Digests, manifests, image configurations and layer IDs. Pure: no I/O.

Sources: OCI image-spec v1.1 ``manifest.md``, ``config.md``, ``descriptor.md``; Docker image
manifest v2 schema 2; layer IDs as containers/image v5 ``storage/storage_dest.go`` computes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.oci.schema import Check, Repeated, config_problem, manifest_problem, member
from podman_cvmfs.oci.times import normal_time

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
#: Larger layers are refused, too. podman counts in 64 bits with a sign, and as many sizes as a
#: manifest of ``MAX_DOCUMENT`` has room for must not add up to more.
MAX_LAYER = 1 << 46

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\Z")
#: A layer in a manifest of Docker's that podman takes from version 5.7 on.
_DOCKER_ZSTD = f"{DOCKER_LAYER}.zstd"
_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
#: The layers that podman takes in a manifest of Docker's, and what OCI calls them.
_DOCKER_LAYERS = {
    DOCKER_LAYER: OCI_LAYER,
    f"{DOCKER_LAYER}.gzip": f"{OCI_LAYER}+gzip",
    _DOCKER_ZSTD: f"{OCI_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": _FOREIGN,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": f"{_FOREIGN}+gzip",
}
#: A string in JSON, and an escape that stands for what times are written with.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_TIME_ESCAPE = re.compile(r"\\u00(?:3[0-9aA]|5[4aA]|2[bBdDeE])")


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

    @property
    def has_docker_zstd(self) -> bool:
        """Whether this is a manifest of Docker's with a layer in zstd. podman before 5.7 can't read
        it, and lists no image at all beside it."""
        types = (layer.media_type for layer in self.layers)
        return self.media_type == DOCKER_MANIFEST and _DOCKER_ZSTD in types


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
        return Platform.stated(self.architecture, self.variant, self.os)


def parse_json(data: bytes, what: str) -> Any:
    """Decode a JSON document; InputError names ``what`` if it isn't JSON, or nested too deeply."""
    return _decoded(_ANY_JSON, data, what)[0]


def _decoded(decoder: json.JSONDecoder, data: bytes, what: str) -> tuple[Any, str]:
    """The document in ``data``, and its text."""
    try:
        # Python would take UTF-16 and a byte order mark, which nobody else does.
        text = data.decode()
        return decoder.decode(text), text
    except (ValueError, RecursionError) as err:
        reason = "nested too deeply" if isinstance(err, RecursionError) else str(err)
        raise InputError(f"{what} is not valid JSON: {printable(reason)}") from None


def _no_number(name: str) -> NoReturn:
    """For what Python takes for numbers: NaN, Infinity, -Infinity."""
    raise ValueError(f"{name} is not a number")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(found)


def _fractional(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


_ANY_JSON = json.JSONDecoder(parse_float=_fractional, parse_constant=_no_number)
#: For what podman decodes, too: it must see what we see.
_IMAGE_JSON = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_number)


def _image_document(data: bytes, problem: Check, what: str) -> tuple[dict[str, Any], str]:
    """Decode a document that podman decodes as well, and its text. Raises InputError if podman
    couldn't, or might see another one."""
    document, text = _decoded(_IMAGE_JSON, data, what)
    if not isinstance(document, dict):
        raise InputError(f"{what} must be a JSON object, not {type(document).__name__}")
    found = problem(document)
    if found is not None:
        raise InputError(f"podman can't read {what}: {found.lstrip('. ')}")
    return document, text


def _plain(value: str | None, what: str) -> str:
    """A text that ends up in a store's records or in the name of a file."""
    if value is None:
        return ""
    if "\0" in value or not _is_unicode(value):
        raise InputError(
            f"{what} holds a text that isn't valid Unicode: {printable(value)[:100]!r}"
        )
    return value


def _is_unicode(text: str) -> bool:
    """Whether ``text`` has no half of a surrogate pair, as JSON's escapes can write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _descriptor(entry: Mapping[str, Any] | None, what: str) -> Descriptor:
    if entry is None:
        raise InputError(f"{what} must be a JSON object, not null")
    size = member(entry, "size") or 0
    if not 0 <= size <= MAX_LAYER:
        raise InputError(f"the size of {what} can't be {size} bytes")
    return Descriptor(
        media_type=_plain(member(entry, "mediaType"), f"the media type of {what}"),
        digest=Digest.parse(member(entry, "digest"), f"the digest of {what}"),
        size=size,
    )


def parse_manifest(data: bytes, what: str = "manifest", as_it_is: bool = False) -> Manifest:
    """Read an image manifest, OCI or Docker v2, or in DUCC's capitalised form.

    DUCC marshals a Go structure without JSON tags, so its keys are ``Config``, ``Layers``,
    ``MediaType``, ``Digest``, ``Size``; like Go this tells names apart without case. A manifest
    without a media type is an OCI one, as the OCI image-spec allows, unless its config says it is
    Docker's. ``as_it_is``: podman will read these very bytes, so nothing that ``render_manifest``
    adds may be missing. Otherwise a manifest of Docker's with zstd becomes an OCI one, which every
    podman reads. Raises InputError, also for documents that podman can't read.
    """
    document, _ = _image_document(data, manifest_problem, what)
    found = member(document, "config")
    if found is None:
        raise InputError(f"{what} is not an image manifest: it names no config")
    config = _descriptor(found, f"the config in {what}")
    layers = tuple(
        _descriptor(entry, f"layer {number} in {what}")
        for number, entry in enumerate(member(document, "layers") or [])
    )
    stated = _plain(member(document, "mediaType"), f"the media type of {what}")
    media_type = stated
    if not media_type:
        media_type = DOCKER_MANIFEST if config.media_type == DOCKER_CONFIG else OCI_MANIFEST
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise InputError(f"{what} has the unsupported media type {printable(media_type)!r}")
    says_what = stated or (media_type == OCI_MANIFEST and member(document, "schemaVersion") == 2)
    if as_it_is and not says_what:
        raise InputError(f"podman can't read {what}: it doesn't say what it is")
    if not as_it_is and (media_type, config.media_type) == (OCI_MANIFEST, DOCKER_CONFIG):
        # The same document either way, and it is written anew.
        config = replace(config, media_type=OCI_CONFIG)
    manifest = Manifest(media_type, config, layers)
    _check_media_types(manifest, what, as_it_is)
    return manifest if as_it_is or not manifest.has_docker_zstd else _as_oci(manifest)


def _as_oci(manifest: Manifest) -> Manifest:
    """The manifest of Docker's ``manifest`` in OCI's words."""
    config = replace(manifest.config, media_type=OCI_CONFIG)
    types = (_DOCKER_LAYERS.get(layer.media_type, "") for layer in manifest.layers)
    layers = (replace(layer, media_type=kind) for layer, kind in zip(manifest.layers, types))
    return Manifest(OCI_MANIFEST, config, tuple(layers))


def _check_media_types(manifest: Manifest, what: str, as_it_is: bool) -> None:
    """Refuse what podman refuses: an OCI manifest whose config isn't that of an image, and layers
    that Docker doesn't know in a manifest of Docker's. Unless ``as_it_is``, types may lack."""
    is_oci = manifest.media_type == OCI_MANIFEST
    known = {OCI_CONFIG} if is_oci else {*_DOCKER_LAYERS}
    if not as_it_is:
        known.add("")
    for each in (manifest.config,) if is_oci else manifest.layers:
        if each.media_type not in known:
            raise InputError(
                f"podman can't read {what}: "
                f"the media type {printable(each.media_type)[:100]!r} doesn't belong in it"
            )


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
    """Read an image configuration (OCI image-spec ``config.md``).

    Raises InputError, also for what podman can't read.
    """
    document, text = _image_document(data, config_problem, what)
    rootfs = member(document, "rootfs")
    if rootfs is None:
        raise InputError(f"rootfs in {what} must be a JSON object, not null")
    diff_ids = tuple(
        Digest.parse(entry, f"diff ID {number} in {what}")
        for number, entry in enumerate(member(rootfs, "diff_ids") or [])
    )
    _check_times(document, text, what)
    runtime = member(document, "config") or {}
    volumes = member(runtime, "Volumes") or {}
    return ImageConfig(
        raw=data,
        digest=Digest.of(data),
        diff_ids=diff_ids,
        architecture=_plain(member(document, "architecture"), f"the architecture in {what}"),
        os=_plain(member(document, "os"), f"the os in {what}"),
        variant=_plain(member(document, "variant"), f"the variant in {what}"),
        created=normal_time(member(document, "created") or ""),
        working_dir=_plain(member(runtime, "WorkingDir"), f"WorkingDir in {what}"),
        user=_plain(member(runtime, "User"), f"User in {what}"),
        volumes=tuple(sorted(_plain(path, f"a volume in {what}") for path in volumes)),
    )


def _check_times(document: Mapping[str, Any], text: str, what: str) -> None:
    """Refuse times with escapes: Go reads a time as it is written."""
    if _TIME_ESCAPE.search(text) is None:
        return
    escaped = {json.loads(string) for string in _STRING.findall(text) if "\\" in string}
    history = member(document, "history") or []
    if any(member(each or {}, "created") in escaped for each in (document, *history)):
        raise InputError(f"podman can't read {what}: it has a time with escapes in it")


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
