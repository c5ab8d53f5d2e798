# SPDX-License-Identifier: Apache-2.0
"""The images and layers in repositories, whatever their layout. Pure: no I/O."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest, Manifest
from podman_cvmfs.oci.platform import Platform


@dataclass(frozen=True)
class PublishedImage:
    """An image that the repository offers under ``name``.

    ``image_id`` is the digest of its config. ``linked`` says whether a public link leads to a
    merged root; without one DUCC has published only the image's layers. ``place`` is the directory
    of its architecture (``.multiarch/arm64:v8``), "" if the repository doesn't tell the
    architecture. Unless ``tells_registry``, there can be no such registry as the name says.
    """

    name: ImageName
    image_id: Digest
    linked: bool
    place: str = ""
    tells_registry: bool = True

    @property
    def platform(self) -> Platform | None:
        """The platform that the repository states for the image. Outside of ``.multiarch`` it is
        unknown: there DUCC publishes images for its own machine, and images for a single
        architecture."""
        return Platform.parse(posixpath.basename(self.place)) if self.place else None

    @property
    def expected_id(self) -> Digest | None:
        """The ID that podman will show, if the genuine config is found."""
        return self.image_id

    def is_described_by(self, manifest: Manifest) -> bool:
        """Whether ``manifest`` belongs to this image."""
        return manifest.config.digest == self.image_id

    def may_come_by(self, index: Digest | None) -> bool:
        """Whether the index with this digest, None for none, may list the image's manifest."""
        return True


@dataclass(frozen=True)
class OtherPlatforms:
    """An image that the repository has only for these platforms, and no one of them fits."""

    name: ImageName
    platforms: tuple[Platform, ...]


@dataclass(frozen=True)
class PublishedLayer:
    """One unpacked layer: the absolute path of its files, and its facts from layers.json."""

    files: str
    diff_id: Digest | None
    diff_size: int | None


@dataclass(frozen=True)
class Problem:
    """An unusable thing in the repository: its path and the reason."""

    path: str
    error: PodmanCvmfsError
