# SPDX-License-Identifier: Apache-2.0
"""An image in a registry, as a source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.source.image import (
    SourceImage,
    checked_image,
    choose_platform,
    is_index,
    listed,
)
from podman_cvmfs.registry.client import RegistryClient


class RegistrySource:
    """A registry's image with the name ``name``; of an index the one for ``platform``. It is
    published as ``published_as``."""

    def __init__(
        self,
        client: RegistryClient,
        name: ImageName,
        published_as: ImageName,
        platform: Platform,
    ) -> None:
        self._client = client
        self._name = name
        self._published_as = published_as
        self._platform = platform

    def images(self) -> Sequence[SourceImage]:
        name = self._name
        data, _ = self._client.manifest(name)
        what = f"the manifest of {name}"
        with _registry_fault():
            document = documents.parse_json(data, what)
        index = None
        if is_index(document):
            index = data
            with _registry_fault():
                entries = listed(document, what)
            entry = choose_platform(entries, self._platform, str(name))
            with _registry_fault():
                digest = Digest.parse(entry.get("digest"), f"the digest of {name}'s manifest")
            data, _ = self._client.manifest(name, str(digest))
        with _registry_fault():
            manifest = documents.parse_manifest(data, what)
        if manifest.config.size > documents.MAX_DOCUMENT:
            raise RegistryError(f"{name}: the image's configuration is too large")
        raw = self._client.blob(name, manifest.config.digest)
        with _registry_fault():
            config = documents.parse_config(raw, f"the configuration of {name}")
        image = checked_image(self._published_as, manifest, config, data, index)
        return [replace(image, is_from_registry=True)]

    def layer(self, image: SourceImage, layer: Descriptor) -> Iterator[bytes]:
        return self._client.blob_stream(self._name, layer.digest)

    def close(self) -> None:
        # The client is shared by all sources of a run.
        pass


@contextlib.contextmanager
def _registry_fault() -> Iterator[None]:
    """Turn InputErrors about a registry's data into RegistryErrors: the user didn't give these
    data."""
    try:
        yield
    except InputError as err:
        raise RegistryError(err.message, err.hint) from None
