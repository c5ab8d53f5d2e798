# SPDX-License-Identifier: Apache-2.0
"""Images made in memory, published from there or written as a layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.publish.publisher import Published, publish
from podman_cvmfs.publish.source.image import SourceImage, checked_image
from tests.support.layers import Blob, Entry, pack


class Images:
    """Images in memory. ``layer`` serves their blobs; ``asked`` counts the requests."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.asked = 0

    def image(self, name: str, *layers: list[Entry], **settings: object) -> SourceImage:
        return self.of_blobs(name, [pack(entries) for entries in layers], settings)

    def of_blobs(self, name: str, blobs: list[Blob], settings: object = None) -> SourceImage:
        image = self.unchecked(name, blobs, settings)
        return checked_image(image.name, image.manifest, image.config)

    def unchecked(self, name: str, blobs: list[Blob], settings: object = None) -> SourceImage:
        """The same, whether or not such an image may be."""
        raw = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2020-09-13T12:26:40Z",
                "config": settings or {},
                "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in blobs]},
            }
        ).encode()
        config = documents.parse_config(raw)
        layers = []
        for blob in blobs:
            digest = Digest.parse(blob.digest)
            self.blobs[digest] = blob.data
            layers.append(Descriptor(documents.OCI_LAYER + "+gzip", digest, len(blob.data)))
        own = Descriptor(documents.OCI_CONFIG, config.digest, len(raw))
        manifest = documents.Manifest(documents.OCI_MANIFEST, own, tuple(layers))
        return SourceImage(parse_name(name), manifest, config)

    def layer(self, layer: Descriptor) -> Iterator[bytes]:
        self.asked += 1
        yield self.blobs[layer.digest]

    def write_layout(self, path: Path, image: SourceImage) -> Path:
        """Write ``image`` as an OCI layout; return the path of its manifest."""
        blobs = path / "blobs/sha256"
        blobs.mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

        def descriptor(data: bytes, kind: str) -> dict[str, object]:
            digest = Digest.of(data)
            (blobs / digest.hex).write_bytes(data)
            return {"mediaType": kind, "digest": str(digest), "size": len(data)}

        layers = [self.blobs[layer.digest] for layer in image.manifest.layers]
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": documents.OCI_MANIFEST,
                "config": descriptor(image.config.raw, documents.OCI_CONFIG),
                "layers": [descriptor(data, documents.OCI_LAYER + "+gzip") for data in layers],
            }
        ).encode()
        entry = descriptor(manifest, documents.OCI_MANIFEST)
        entry["annotations"] = {"org.opencontainers.image.ref.name": str(image.name)}
        index = {"schemaVersion": 2, "manifests": [entry]}
        (path / "index.json").write_text(json.dumps(index))
        return blobs / Digest.of(manifest).hex


def put(repository: Path, images: Images, image: SourceImage) -> Published:
    return publish(str(repository), image, images.layer)
