# SPDX-License-Identifier: Apache-2.0
"""Reads a repository in OSG's layout, which has only merged roots; ``layout`` describes it.

It has no layers and no manifests. The merged root's name tells from which layers it was made (see
``osg_names.merged_root``), but not the config. The link doesn't tell the registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, RepositoryError, printable
from podman_cvmfs.oci.documents import Digest, Manifest
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.osg_names import OsgNames, merged_root, source_id
from podman_cvmfs.repository.records import OtherPlatforms, Problem, PublishedImage
from podman_cvmfs.repository.tree import Tree

#: The repository may be looked at in another place than the one it was made for.
_TARGET = re.compile(rf"(?:.*/)?({layout.OSG_ROOT_PATTERN})\Z", re.DOTALL)
#: No list nests its names deeper.
_MAX_DEPTH = 24


@dataclass(frozen=True)
class OsgImage(PublishedImage):
    """An image of which there is the merged root at ``merged``, relative to the repository.

    Two tags whose images differ in the config alone lead to one merged root, so ``image_id`` is
    made of both: it tells images apart, but is no digest of a config. ``is_guess`` says that the
    registry in the name is a guess.
    """

    merged: str = ""
    is_guess: bool = False

    @property
    def expected_id(self) -> None:
        """None: the ID that podman will show is unknown here."""

    @property
    def root_digest(self) -> Digest:
        """The name of the merged root: a digest over its layers' digests, or an index's."""
        return Digest("".join(self.merged.rpartition(":")[2].split("/")[-2:]))

    @property
    def is_of_index(self) -> bool:
        """Whether the merged root has the name of the index that the image came by."""
        return ":" in self.merged

    def is_described_by(self, manifest: Manifest) -> bool:
        """Whether the merged root was made of these layers, as far as its name tells."""
        return self.is_of_index or merged_root(manifest) == self.merged

    def may_come_by(self, index: Digest | None) -> bool:
        """Whether this is the index that the merged root is called after, if it is."""
        return not self.is_of_index or index == self.root_digest


class OsgRepository:
    """The repository in ``tree``; ``names`` tells what its links mean."""

    def __init__(self, tree: Tree, names: OsgNames) -> None:
        self.tree = tree
        self.root = tree.root
        self._names = names

    @staticmethod
    def is_at(tree: Tree) -> bool:
        """Whether ``tree`` has OSG's layout, and not DUCC's. Raises RepositoryError."""
        return tree.lstat(layout.OSG_ROOTS) is not None and not any(
            tree.lstat(name) is not None for name in layout.DUCC_PARTS
        )

    def images(
        self, problems: list[Problem], others: list[OtherPlatforms] | None = None
    ) -> Iterator[OsgImage]:
        """Yield all images in order of path; unusable things are added to ``problems``.

        The platform of an image is unknown until its config is found. Raises RepositoryError if the
        repository vanishes meanwhile.
        """
        for path in self._links("", 0, problems):
            try:
                yield self._image(path)
            except (InputError, RepositoryError) as err:
                problems.append(Problem(path, err))
        # A repository that has just been unmounted looks as if its images were lost.
        next(self.tree.entries("", required=True), None)

    def has_merged_root(self, image: PublishedImage) -> bool:
        """Always: an image is nothing else here."""
        return True

    def has_base(self, image: PublishedImage) -> bool:
        """Never: no layer is kept."""
        return False

    def odd_places(self) -> list[str]:
        """None: no directory stands for an architecture."""
        return []

    def config_blob(self, digest: Digest) -> None:
        """No config is kept."""

    def _links(self, directory: str, depth: int, problems: list[Problem]) -> Iterator[str]:
        try:
            entries = list(self.tree.entries(directory, required=True))
        except RepositoryError as err:
            problems.append(Problem(directory, err))
            return
        for entry in entries:
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.is_symlink():
                if depth > 0 and ":" in entry.name:
                    yield path
            elif depth == 0 and entry.name.startswith("."):
                continue  # the merged roots
            elif depth < _MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                yield from self._links(path, depth + 1, problems)

    def _image(self, path: str) -> OsgImage:
        name = self._names.name_of(path)
        target = self.tree.readlink(path)
        if target is None:
            raise RepositoryError(f"the link {printable(path)} vanished while listed")
        match = _TARGET.match(target)
        if match is None:
            raise RepositoryError(
                f"the link {printable(path)} leads to {printable(target)!r}, "
                f"not to a merged root below {layout.OSG_ROOTS}"
            )
        merged = match.group(1)
        return OsgImage(
            name,
            source_id(merged, name),
            linked=True,
            merged=merged,
            is_guess=self._names.is_guess(path),
            tells_registry=self._names.tells_registry(path),
        )
