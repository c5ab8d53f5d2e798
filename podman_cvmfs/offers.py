# SPDX-License-Identifier: Apache-2.0
"""What repositories offer, and what to do for those that can't be read just now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from podman_cvmfs.errors import PodmanCvmfsError, RepositoryError, printable
from podman_cvmfs.reference import ImageName, parse_repository_path
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.unpacked import Problem, PublishedImage, Repository


@dataclass(frozen=True)
class Offer:
    """An image as one repository offers it."""

    repository: Repository
    image: PublishedImage


@dataclass
class Offers:
    """Everything on offer, in order of preference.

    ``problems`` are what couldn't be read, by repository; ``down`` are repositories that can't be
    read at all, with why.
    """

    offers: list[Offer] = field(default_factory=list)
    problems: list[tuple[str, Problem]] = field(default_factory=list)
    down: dict[str, PodmanCvmfsError] = field(default_factory=dict)

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


@dataclass(frozen=True)
class Held:
    """An image that the store offers now under some name: its source ID, its repository."""

    source: str
    repository: str


def held_by(current: StoreContent) -> dict[ImageName, Held]:
    """What the store offers now, by the name in the repository."""
    return {
        parse_repository_path(path): Held(image.source_id, image.repository)
        for image in current.images.values()
        for path in image.published
    }


def collect(roots: Sequence[str], held: Mapping[ImageName, Held]) -> Offers:
    """List the repositories at ``roots``.

    One that has nothing to offer counts as down if the store holds images of it, or any images
    while it is the only one: an empty directory is what an unmounted repository looks like.
    """
    holding = {each.repository for each in held.values()}
    found = Offers()
    for root in roots:
        problems: list[Problem] = []
        try:
            repository = Repository(root)
            images = list(repository.images(problems))
        except RepositoryError as err:
            found.down[root] = err
            continue
        if not images and (repository.root in holding or problems or (holding and len(roots) == 1)):
            found.down[repository.root] = _nothing_listed(repository, problems)
            continue
        found.offers.extend(Offer(repository, image) for image in images)
        found.problems.extend((repository.root, problem) for problem in problems)
    return found


def _nothing_listed(repository: Repository, problems: Sequence[Problem]) -> PodmanCvmfsError:
    if problems:
        return problems[0].error
    return RepositoryError(
        f"the repository {printable(repository.root)} holds no image; the store is left as it is",
        "is it mounted? to empty the store on purpose, remove its directory",
    )


def still_held(
    held: Mapping[ImageName, Held], repository: str, path: str = ""
) -> dict[ImageName, str]:
    """Name -> source ID of what the store holds from ``repository``, at or below ``path`` in it."""
    return {
        name: each.source
        for name, each in held.items()
        if each.repository == repository
        and (not path or f"{name.repository_path}/".startswith(f"{path}/"))
    }
