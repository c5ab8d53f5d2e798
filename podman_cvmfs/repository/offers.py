# SPDX-License-Identifier: Apache-2.0
"""What repositories offer, and what to do for those that can't be read just now."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union

from podman_cvmfs.errors import PodmanCvmfsError, RepositoryError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.osg import OsgRepository
from podman_cvmfs.repository.osg_names import OsgNames
from podman_cvmfs.repository.records import OtherPlatforms, Problem, PublishedImage
from podman_cvmfs.repository.tree import LinkedError, open_tree

AnyRepository = Union[Repository, OsgRepository]


@dataclass(frozen=True)
class Offer:
    """An image as one repository offers it."""

    repository: AnyRepository
    image: PublishedImage


@dataclass
class Offers:
    """Everything on offer, in order of preference.

    ``asked`` are all repositories that were looked at; ``problems`` are what couldn't be read, by
    repository; ``others`` what repositories have for other platforms only; ``down`` are those that
    can't be read at all, with why; ``forged`` are those of them whose images the store must not go
    on showing, since their files may have become others.
    """

    offers: list[Offer] = field(default_factory=list)
    problems: list[tuple[str, Problem]] = field(default_factory=list)
    others: list[OtherPlatforms] = field(default_factory=list)
    down: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

    @property
    def forged(self) -> set[str]:
        return {root for root, error in self.down.items() if isinstance(error, LinkedError)}

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


@dataclass(frozen=True)
class Held:
    """An image that the store offers now under some name: its source ID, its repository."""

    source: str
    repository: str


def open_repository(
    root: str, platform: Platform | None = None, specs: Collection[ImageSpec] = ()
) -> AnyRepository:
    """The repository at ``root``, of whichever kind it is; see ``collect``."""
    tree = open_tree(root)
    if OsgRepository.is_at(tree):
        return OsgRepository(tree, OsgNames(specs))
    return Repository(root, platform)


def collect(
    roots: Sequence[str],
    held: Mapping[ImageName, Held],
    platform: Platform | None = None,
    specs: Collection[ImageSpec] = (),
) -> Offers:
    """List what the repositories at ``roots`` have for ``platform``, None for this machine's.

    ``specs`` are wishes, by which names are completed that a repository leaves the registry out of.
    One that has nothing to offer counts as down if the store holds images of it, or any images
    while it is the only one, or if it isn't laid out as a repository: an empty directory is what an
    unmounted one looks like.
    """
    holding = {each.repository for each in held.values()}
    found = Offers(asked=frozenset(map(os.path.abspath, roots)))
    for root in roots:
        problems: list[Problem] = []
        try:
            repository = open_repository(root, platform, specs)
            others: list[OtherPlatforms] = []
            images = list(repository.images(problems, others))
            is_foreign = not any(repository.tree.lstat(name) is not None for name in layout.PARTS)
        except RepositoryError as err:
            found.down[os.path.abspath(root)] = err
            continue
        emptied = repository.root in holding or problems or (holding and len(roots) == 1)
        if not (images or others) and (emptied or is_foreign):
            found.down[repository.root] = _nothing_listed(repository, problems)
            continue
        found.offers.extend(Offer(repository, image) for image in images)
        found.problems.extend((repository.root, problem) for problem in problems)
        found.others.extend(others)
    return found


def _nothing_listed(repository: AnyRepository, problems: Sequence[Problem]) -> PodmanCvmfsError:
    if problems:
        return problems[0].error
    return RepositoryError(
        f"the repository {printable(repository.root)} holds no image", "is it mounted?"
    )


def may_lie_below(published: str, path: str) -> bool:
    """Whether the image with the name ``published`` may be found at or below ``path`` in the
    repository, "" for anywhere. OSG's paths lack the registry."""
    place = layout.public_path(path)
    ways = (published, published.partition("/")[2])
    return not place or any(f"{way}/".startswith(f"{place}/") for way in ways)
