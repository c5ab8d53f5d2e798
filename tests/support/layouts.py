# SPDX-License-Identifier: Apache-2.0
"""OCI layouts and docker-archives that tests write, and all that a source gives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci import documents as oci
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.image import SourceImage
from podman_cvmfs.publish.source.open import open_source
from podman_cvmfs.registry.client import RegistryClient
from tests.support.layers import Blob, directory, file, pack, sha256

LAYERS = [pack([directory("etc"), file("etc/os", "base")]), pack([file("top", "top")], "zstd")]
THIS = Platform.of_host()
HOST = {"os": "linux", "architecture": THIS.architecture}
NAME = "example.org/group/app:1"


def config(layers: Sequence[Blob] = LAYERS, **settings: object) -> bytes:
    """A config of an image of these layers."""
    return json.dumps(
        {
            **HOST,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()


def descriptor(data: bytes, media_type: str = "", **more: object) -> dict[str, Any]:
    """What describes a document or blob."""
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


class Layout:
    """An OCI image layout being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, Any]] = []

    def blob(self, data: bytes) -> bytes:
        """Add a blob; return it."""
        (self.path / "blobs/sha256" / sha256(data)[7:]).write_bytes(data)
        return data

    def image(self, raw: bytes, layers: Sequence[Blob] = LAYERS) -> bytes:
        """Add an image with its layers; return its manifest."""
        self.blob(raw)
        for layer in layers:
            self.blob(layer.data)
        return self.blob(
            json.dumps(
                {
                    "schemaVersion": 2,
                    "config": descriptor(raw, oci.OCI_CONFIG),
                    "layers": [descriptor(layer.data, oci.OCI_LAYER) for layer in layers],
                }
            ).encode()
        )

    def add(self, manifest: bytes, name: str | None = None, **more: Any) -> None:
        """Have the index name a manifest."""
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        self.entries.append(descriptor(manifest, annotations=annotations, **more))
        index = {"schemaVersion": 2, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))

    def index(self, *entries: dict[str, Any]) -> bytes:
        """Add an index within the index; return it."""
        return self.blob(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def images_of(text: str, name: str | None = None, platform: Platform = THIS) -> list[SourceImage]:
    """Open a source and read all of it, layers too."""
    with RegistryClient() as client:
        given = parse_name(name) if name else None
        source = open_source(text, given, client, platform)
        try:
            images = list(source.images())
            for image in images:
                for layer in image.manifest.layers:
                    data = b"".join(source.layer(image, layer))
                    assert (sha256(data), len(data)) == (str(layer.digest), layer.size)
            return images
        finally:
            source.close()


def names_of(text: str, name: str | None = None) -> list[str]:
    """The names of all images of a source."""
    return [str(image.name) for image in images_of(text, name)]


def write_archive(
    path: Path, layers: Sequence[Blob], tags: Sequence[str] | None, links: bool = False
) -> Path:
    """Write a docker-archive."""
    raw = config(layers)
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            """Have the index name a manifest."""
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        add("config.json", raw)
        files = []
        for number, layer in enumerate(layers):
            name = f"{number}/layer.tar"
            if links:
                add(f"real{number}/layer.tar", layer.data)
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, f"../real{number}/layer.tar"
                archive.addfile(info)
            else:
                add(name, layer.data)
            files.append(name)
        entry = {"Config": "config.json", "RepoTags": tags, "Layers": files}
        add("manifest.json", json.dumps([entry]).encode())
    return path


PLAIN = [pack([directory("etc"), file("etc/os", "base")], "plain"), pack([file("x")], "plain")]
