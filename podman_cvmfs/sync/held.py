# SPDX-License-Identifier: Apache-2.0
"""The images that the store offers now, by their names in repositories. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from podman_cvmfs.names.reference import ImageName, parse_repository_path
from podman_cvmfs.repository.offers import may_lie_below
from podman_cvmfs.store.records import StoreContent


@dataclass(frozen=True)
class Held:
    """An image that the store offers now under some name: its source ID, its repository."""

    source: str
    repository: str


def held_by(current: StoreContent) -> dict[ImageName, Held]:
    """The images that the store offers now, by the name in the repository."""
    return {
        parse_repository_path(path): Held(source, image.repository)
        for image in current.images.values()
        for path, source in image.source_of.items()
    }


def still_held(
    held: Mapping[ImageName, Held], repository: str, path: str = ""
) -> dict[ImageName, str]:
    """Name -> source ID of the store's images from ``repository``, at or below ``path`` in it."""
    return {
        name: each.source
        for name, each in held.items()
        if each.repository == repository and may_lie_below(name.repository_path, path)
    }


def repositories_of(held: Mapping[ImageName, Held]) -> set[str]:
    """The repositories that these images are from."""
    return {each.repository for each in held.values()}
