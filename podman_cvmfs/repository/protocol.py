# SPDX-License-Identifier: Apache-2.0
"""The interface of every repository, whatever its layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.repository.records import OtherPlatforms, Problem, PublishedImage
from podman_cvmfs.repository.tree import Tree


class AnyRepository(Protocol):
    """A repository of unpacked images; ``root`` is its directory, ``tree`` reads it.

    Each method raises RepositoryError where the repository can't be read.
    """

    root: str
    tree: Tree

    def images(
        self, problems: list[Problem], others: list[OtherPlatforms] | None = None
    ) -> Iterator[PublishedImage]:
        """Yield all images in order of preference. An entry that can't be used is added to
        ``problems``, an image for other platforms only to ``others``."""

    def has_merged_root(self, image: PublishedImage) -> bool:
        """Whether the merged root of ``image`` is there, and the public link to it."""

    def has_base(self, image: PublishedImage) -> bool:
        """Whether the lowest layer of ``image`` is there by itself."""

    def odd_places(self) -> list[str]:
        """Directories for architectures that nobody knows."""

    def config_blob(self, digest: Digest) -> bytes | None:
        """The config kept under ``digest``, not yet checked; None if there is none."""
