# SPDX-License-Identifier: Apache-2.0
"""The paths that we write in DUCC's layout, and the form of its JSON files. Pure: no I/O.

Taken from repositories that DUCC 2.12 wrote (cvmfs ``ducc/lib/conversion.go``). All paths are
relative to the repository's root.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import Descriptor, Digest, ImageConfig, Manifest, parse_json
from podman_cvmfs.publish.source.image import SourceImage
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.layout import FLAT as FLAT
from podman_cvmfs.repository.layout import IMPLIED_JSON as IMPLIED_JSON
from podman_cvmfs.repository.layout import LAYERFS as LAYERFS
from podman_cvmfs.repository.layout import LAYERS as LAYERS
from podman_cvmfs.repository.layout import LAYERS_JSON as LAYERS_JSON
from podman_cvmfs.repository.layout import METADATA as METADATA
from podman_cvmfs.repository.layout import ORIGIN_JSON as ORIGIN_JSON


def layer_path(blob: Digest) -> str:
    """The directory of the layer whose (compressed) blob has this digest."""
    return layout.layer_directory(blob.hex)


def flat_path(config: Digest) -> str:
    """The merged root file system of the image with this ID."""
    return layout.flat_directory(config.hex)


def profile_path(config: Digest) -> str:
    """The start-up profile of the image with this ID."""
    return layout.profile_file(config.hex)


def manifest_path(name: ImageName) -> str:
    """The image's manifest; for a digest-only image DUCC uses the place of its repository's
    manifest."""
    tag = f":{name.tag}" if name.tag else ""
    return layout.manifest_file("", f"{name.registry}/{name.repository}{tag}")


def manifest_path_at(link: str) -> str:
    """The manifest of the image at the public link ``link``."""
    return layout.manifest_file("", link)


def link_target(name: ImageName, config: Digest) -> str:
    """The target of the public link of ``name``: the path from it to the flat root."""
    return "../" * name.repository_path.count("/") + flat_path(config)


def config_path(config: Digest) -> str:
    """The configuration with this digest, in DUCC's own image store."""
    return f"{layout.image_directory(config.hex)}/{big_data_file(str(config))}"


def manifest_blob_path(config: Digest, document: Digest) -> str:
    """An image's manifest, or its index, with the digest ``document``, beside its configuration."""
    return f"{layout.image_directory(config.hex)}/{big_data_file(f'manifest-{document}')}"


def blob_paths(image: SourceImage) -> dict[str, bytes]:
    """The image's documents, byte for byte, by their paths in DUCC's own image store.

    DUCC keeps the configuration there; manifest and index are our addition, so that the image's
    digests can be known without its registry.
    """
    config = image.config.digest
    blobs = {config_path(config): image.config.raw}
    for document in (image.raw_manifest, image.raw_index):
        if document is not None:
            blobs[manifest_blob_path(config, Digest.of(document))] = document
    return blobs


def manifest_document(manifest: Manifest) -> bytes:
    """Write ``manifest.json`` as DUCC does: a Go structure marshalled without JSON tags."""
    document = {
        "SchemaVersion": 2,
        "MediaType": manifest.media_type,
        "Config": _descriptor(manifest.config),
        "Layers": [_descriptor(layer) for layer in manifest.layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "MediaType": descriptor.media_type,
        "Size": descriptor.size,
        "Digest": str(descriptor.digest),
    }


def render_layers_json(blob: Digest, diff_id: Digest, diff_size: int, config: ImageConfig) -> bytes:
    """Write ``layers.json``; ``diff_size`` is the size of the uncompressed tar in bytes.

    ``created`` is the image's own time, not the clock's, so that equal input gives equal files.
    """
    entry = {
        "id": diff_id.hex,
        "created": config.created,
        "compressed-diff-digest": str(blob),
        "diff-digest": str(diff_id),
        "diff-size": diff_size,
    }
    return json.dumps([entry], indent=1).encode()


def parse_layers_json(data: bytes, what: str) -> Digest:
    """Read a layer's diff ID from its ``layers.json``. Raises InputError."""
    document = parse_json(data, what)
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        raise InputError(f"{what} is not a list of layers")
    return Digest.parse(document[0].get("diff-digest"), f"the diff digest in {what}")


def render_origin(configs: Iterable[str]) -> bytes:
    """Write ``origin.json``: the images that a layer belongs to, each once."""
    document = {"origin": list(dict.fromkeys(configs))}
    return json.dumps(document, separators=(",", ":")).encode()


def parse_origin(data: bytes, what: str) -> list[str]:
    """Read ``origin.json``. Raises InputError."""
    document = parse_json(data, what)
    origin = document.get("origin") if isinstance(document, dict) else None
    if not isinstance(origin, list) or not all(isinstance(entry, str) for entry in origin):
        raise InputError(f"{what} holds no list of origins")
    return origin


def render_implied(paths: Iterable[bytes]) -> bytes:
    """Write ``implied.json``; odd bytes in paths become lone surrogates, which JSON can escape."""
    return json.dumps(sorted(path.decode("utf-8", "surrogateescape") for path in paths)).encode()


def parse_implied(data: bytes, what: str) -> frozenset[bytes]:
    """Read ``implied.json``. Raises InputError."""
    document = parse_json(data, what)
    if not isinstance(document, list) or not all(isinstance(entry, str) for entry in document):
        raise InputError(f"{what} is not a list of paths")
    return frozenset(entry.encode("utf-8", "surrogateescape") for entry in document)
