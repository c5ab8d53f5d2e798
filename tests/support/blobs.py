# SPDX-License-Identifier: Apache-2.0
"""A registry played by dictionaries."""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.errors import NotInRegistry, RegistryError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest


class Blobs:
    """A registry that has ``blobs`` and counts what it is asked for."""

    def __init__(self, blobs: dict[str, bytes], error: RegistryError | None = None) -> None:
        self.blobs = blobs
        self.error = error
        self.asked: list[str] = []
        self.asked_manifests: list[str] = []
        #: Tag or digest -> document.
        self.manifests: dict[str, bytes] = {}

    def hosts(self, name: ImageName) -> list[str]:
        """The hosts that are asked for ``name``."""
        return [name.registry]

    def blob(self, name: ImageName, digest: Digest) -> bytes:
        """A blob that is there; RegistryError for any other."""
        self.asked.append(str(name))
        if self.error:
            raise self.error
        if digest.hex not in self.blobs:
            raise NotInRegistry(f"{name}: no such blob")
        return self.blobs[digest.hex]

    def blob_stream(self, name: ImageName, digest: Digest) -> Iterator[bytes]:
        """The same in pieces."""
        yield self.blob(name, digest)

    def manifest(self, name: ImageName, reference: str | None = None) -> tuple[bytes, str]:
        """A manifest that is there; RegistryError for any other."""
        self.asked_manifests.append(f"{name.registry}/{name.repository}:{reference}")
        if self.error:
            raise self.error
        if str(reference) not in self.manifests:
            raise NotInRegistry(f"{name}: no such image")
        return self.manifests[str(reference)], ""
