# SPDX-License-Identifier: Apache-2.0
"""An image in a registry, as a source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Optional

from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.names.reference import ImageName, split_domain
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
from podman_cvmfs.registry.addresses import is_loopback
from podman_cvmfs.registry.client import RegistryClient


def check_scheme(scheme: str, host: str) -> None:
    """Raise InputError for a registry that isn't on this machine and is to be asked by http."""
    if scheme == "http" and not is_loopback(host):
        raise InputError(
            f"http:// is only for registries on this machine, not {printable(host)[:300]}",
            "use https://",
        )


def check_host(host: str) -> None:
    """Raise InputError for a registry whose images podman can't name."""
    if split_domain(f"{host}/image")[0] is None:
        raise InputError(
            f"podman has no name for an image of the registry {printable(host)}: it would take "
            "it for a directory of Docker Hub",
            f"give the image a name with --name, or write the registry with its port: {host}:443",
        )


#: Gives the document with a digest that the repository has for the image with a name.
Held = Callable[[ImageName, Digest], Optional[bytes]]


class RegistrySource:
    """A registry's image with the name ``name``; of an index the one for ``platform``. It is
    published as ``published_as``.

    The registry isn't asked for documents that ``held`` gives: for an image that hasn't changed it
    is asked for what the tag names, and for nothing else.
    """

    def __init__(
        self,
        client: RegistryClient,
        name: ImageName,
        published_as: ImageName,
        platform: Platform,
        held: Held = lambda name, digest: None,
    ) -> None:
        self._client = client
        self._name = name
        self._published_as = published_as
        self._platform = platform
        self._held = held

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
            data = self._held(self._published_as, digest) or self._manifest(digest)
        with _registry_fault():
            manifest = documents.parse_manifest(data, what)
        if manifest.config.size > documents.MAX_DOCUMENT:
            raise RegistryError(f"{name}: the image's configuration is too large")
        digest = manifest.config.digest
        raw = self._held(self._published_as, digest) or self._client.blob(name, digest)
        with _registry_fault():
            config = documents.parse_config(raw, f"the configuration of {name}")
        image = checked_image(self._published_as, manifest, config, data, index)
        return [replace(image, is_from_registry=True)]

    def _manifest(self, digest: Digest) -> bytes:
        return self._client.manifest(self._name, str(digest))[0]

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
