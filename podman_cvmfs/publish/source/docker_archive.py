# SPDX-License-Identifier: Apache-2.0
"""Archives of ``docker save`` and ``podman save`` as a source of images.

The archive's ``manifest.json`` names, for each image, its configuration, its tags and the files
its layers are in; a manifest as registries have it is not there and is made here. Format: Docker
image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.lists.layer_stream import compression
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor, Digest, ImageConfig, Manifest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.files import Files, read
from podman_cvmfs.publish.source.image import SourceImage, archive_name, checked_image

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class _Entry:
    """The entry of an image in ``manifest.json``."""

    config: ImageConfig
    files: tuple[str, ...]
    tags: tuple[str, ...]


class DockerArchive:
    """The images in the archive ``files``; ``what`` is its name in messages. Of several images with
    one tag the one for ``platform`` is used."""

    def __init__(self, files: Files, what: str, name: ImageName | None, platform: Platform) -> None:
        self._files = files
        self._what = what
        self._name = name
        self._platform = platform
        self._layer_files: dict[Digest, str] = {}
        self._hashed: dict[str, Digest] = {}
        self._blobs: dict[tuple[str, Digest], tuple[str, Digest, int]] = {}

    def images(self) -> Sequence[SourceImage]:
        what = f"{self._what}: {MANIFEST}"
        found = documents.parse_json(read(self._files, MANIFEST), what)
        if not isinstance(found, list) or not all(isinstance(e, dict) for e in found):
            raise InputError(f"{what} is not a list of images")
        if not found:
            raise InputError(f"{self._what}: there is no image in it")
        entries = [self._entry(each) for each in found]
        if self._name is not None:
            # Untagged images are several ones.
            if len({entry.tags or id(entry) for entry in entries}) > 1:
                raise InputError(
                    f"{self._what}: there are {len(entries)} images in it, but --name is for "
                    "one image"
                )
            return [self._image(None, entries)]
        tagged: dict[str | None, list[_Entry]] = {}
        for entry in entries:
            for tag in entry.tags or (None,):
                tagged.setdefault(tag, []).append(entry)
        return [self._image(tag, entries) for tag, entries in tagged.items()]

    def _entry(self, entry: dict[str, Any]) -> _Entry:
        files = entry.get("Layers") or []
        config_file = entry.get("Config")
        if not isinstance(config_file, str) or not _are_strings(files):
            raise InputError(f"{self._what}: {MANIFEST} doesn't say where the image's parts are")
        tags = entry.get("RepoTags") or []
        if not _are_strings(tags):
            raise InputError(f"{self._what}: the tags in {MANIFEST} are not strings")
        config = documents.parse_config(
            read(self._files, config_file), f"{self._what}: {printable(config_file)}"
        )
        if len(files) != len(config.diff_ids):
            raise InputError(
                f"{self._what}: {MANIFEST} has {len(files)} layers, "
                f"the configuration {len(config.diff_ids)} diff IDs"
            )
        return _Entry(config, tuple(files), tuple(tags))

    def _image(self, tag: str | None, entries: Sequence[_Entry]) -> SourceImage:
        """The image called ``tag``: of several the one that fits best, or the first."""

        def rank(entry: _Entry) -> float:
            found = self._platform.rank(entry.config.platform)
            return math.inf if found is None else found

        entry = min(entries, key=rank)
        name = archive_name([tag], self._name, self._what)
        return checked_image(name, self._manifest(entry.config, entry.files), entry.config)

    def _manifest(self, config: ImageConfig, files: Sequence[str]) -> Manifest:
        blobs = []
        for layer in zip(files, config.diff_ids):
            if layer not in self._blobs:
                self._blobs[layer] = self._blob(*layer)
            blobs.append(self._blobs[layer])
        # Docker's manifests know no zstd, and podman refuses them for a layer that they don't know.
        is_oci = any(kind == "zstd" for kind, _, _ in blobs)
        layer_type, sign = (documents.OCI_LAYER, "+") if is_oci else (documents.DOCKER_LAYER, ".")
        layers = (
            Descriptor(layer_type if kind == "none" else f"{layer_type}{sign}{kind}", digest, size)
            for kind, digest, size in blobs
        )
        config_type = documents.OCI_CONFIG if is_oci else documents.DOCKER_CONFIG
        own = Descriptor(config_type, config.digest, len(config.raw))
        return Manifest(
            documents.OCI_MANIFEST if is_oci else documents.DOCKER_MANIFEST, own, tuple(layers)
        )

    def _blob(self, file: str, diff_id: Digest) -> tuple[str, Digest, int]:
        """How a layer is compressed, and its digest and size as it is in the archive."""
        head = next(self._files.stream(file), b"")
        kind = compression(head)
        if kind == "none":
            # Unpacking will find out whether this is true.
            digest = diff_id
        else:
            # Many images may name one file: it is hashed once.
            if file not in self._hashed:
                hashed = hashlib.sha256()
                for chunk in self._files.stream(file):
                    hashed.update(chunk)
                self._hashed[file] = Digest(hashed.hexdigest())
            digest = self._hashed[file]
        self._layer_files[digest] = file
        return kind, digest, self._files.size(file)

    def layer(self, image: SourceImage, layer: Descriptor) -> Iterator[bytes]:
        return self._files.stream(self._layer_files[layer.digest])

    def close(self) -> None:
        self._files.close()


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
