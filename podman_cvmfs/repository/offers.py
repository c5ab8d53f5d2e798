# SPDX-License-Identifier: Apache-2.0
"""The offers of all repositories together. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.protocol import AnyRepository
from podman_cvmfs.repository.records import OtherPlatforms, Problem, PublishedImage
from podman_cvmfs.repository.tree import LinkedError


@dataclass(frozen=True)
class Offer:
    """An image as one repository offers it."""

    repository: AnyRepository
    image: PublishedImage


@dataclass
class Offers:
    """Everything on offer, in order of preference.

    ``asked`` are all repositories looked at. ``problems`` are unreadable things, by repository.
    ``others`` are images for other platforms only. ``down`` maps repositories that can't be read at
    all to the reason. ``forged`` are those of them whose files may have been exchanged: the store
    must stop showing their images.
    """

    offers: list[Offer] = field(default_factory=list)
    problems: list[tuple[str, Problem]] = field(default_factory=list)
    others: list[OtherPlatforms] = field(default_factory=list)
    down: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

    @property
    def forged(self) -> set[str]:
        return {root for root, error in self.down.items() if isinstance(error, LinkedError)}

    def is_listed(self, root: str) -> bool:
        """Whether the repository ``root`` was looked at, and is there."""
        return root in self.asked and root not in self.down

    def by_source(self, sources: Collection[str]) -> dict[str, list[Offer]]:
        """The offers of the images ``sources`` (by source ID), each from one repository: the first
        that has it. One image may have many names."""
        grouped: dict[str, list[Offer]] = {}
        for offer in self.offers:
            source = offer.image.image_id.hex
            if source in sources:
                group = grouped.setdefault(source, [])
                if not group or group[0].repository is offer.repository:
                    group.append(offer)
        return grouped

    def homes(self) -> dict[str, str]:
        """Source ID -> the root of the repository that ``by_source`` takes it from."""
        found: dict[str, str] = {}
        for offer in self.offers:
            found.setdefault(offer.image.image_id.hex, offer.repository.root)
        return found


def may_lie_below(published: str, path: str) -> bool:
    """Whether the image with the name ``published`` may be found at or below ``path`` in the
    repository, "" for anywhere. OSG's paths lack the registry."""
    place = layout.public_path(path)
    ways = (published, published.partition("/")[2])
    return not place or any(f"{way}/".startswith(f"{place}/") for way in ways)
