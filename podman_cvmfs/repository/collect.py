# SPDX-License-Identifier: Apache-2.0
"""Lists what repositories offer, and tells an unmounted repository from an empty one."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from podman_cvmfs.errors import PodmanCvmfsError, RepositoryError, printable
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.offers import Offer, Offers
from podman_cvmfs.repository.osg import OsgRepository
from podman_cvmfs.repository.osg_names import OsgNames
from podman_cvmfs.repository.protocol import AnyRepository
from podman_cvmfs.repository.records import OtherPlatforms, Problem
from podman_cvmfs.repository.served import open_tree
from podman_cvmfs.repository.sif import holds_image_files


def _open(
    root: str, platform: Platform | None = None, specs: Collection[ImageSpec] = ()
) -> AnyRepository:
    """The repository at ``root``, of whichever layout it is. Raises RepositoryError."""
    tree = open_tree(root)
    if OsgRepository.is_at(tree):
        return OsgRepository(tree, OsgNames(specs))
    return Repository(root, platform)


def collect(
    roots: Sequence[str],
    holding: Collection[str],
    platform: Platform | None = None,
    specs: Collection[ImageSpec] = (),
) -> Offers:
    """List the images that the repositories at ``roots`` have for ``platform``, None for this
    machine's.

    ``holding`` are the repositories of which the store holds images now. ``specs`` are wishes: they
    complete names that have no registry in a repository. An unmounted repository looks like an
    empty directory. So a repository without images counts as down in three cases: the store has
    images of it; it is the only repository and the store has any images; it isn't laid out as a
    repository.
    """
    found = Offers(asked=frozenset(map(os.path.abspath, roots)))
    for root in roots:
        problems: list[Problem] = []
        try:
            repository = _open(root, platform, specs)
            others: list[OtherPlatforms] = []
            images = list(repository.images(problems, others))
            is_foreign = not any(repository.tree.lstat(name) is not None for name in layout.PARTS)
        except RepositoryError as err:
            found.down[os.path.abspath(root)] = err
            continue
        emptied = repository.root in holding or problems or (holding and len(roots) == 1)
        if not (images or others) and (emptied or is_foreign):
            found.down[repository.root] = _nothing_listed(repository, problems, is_foreign)
            continue
        found.offers.extend(Offer(repository, image) for image in images)
        found.problems.extend((repository.root, problem) for problem in problems)
        found.others.extend(others)
    return found


def _nothing_listed(
    repository: AnyRepository, problems: Sequence[Problem], is_foreign: bool
) -> PodmanCvmfsError:
    if is_foreign and holds_image_files(repository.tree):
        return RepositoryError(
            f"the repository {printable(repository.root)} holds Singularity's image files (SIF), "
            "not unpacked images",
            "podman can't use such files: run them with apptainer, or take another repository",
        )
    if problems:
        return problems[0].error
    return RepositoryError(
        f"the repository {printable(repository.root)} has no images", "is it mounted?"
    )
