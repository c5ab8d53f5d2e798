# SPDX-License-Identifier: Apache-2.0
"""Names in a repository whose links leave the registry out, as OSG's do. Pure: no I/O.

cvmfs-singularity-sync, which fills ``/cvmfs/singularity.opensciencegrid.org``, links
``<namespace>/<repository>:<tag>`` to a merged root, whatever the registry: its list of images
(``docker_images.txt``) alone tells ``hub.opensciencegrid.org/htc/debian:12`` from Docker Hub's.
The merged root's own name isn't the image ID either, but tells the layers it was made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import (
    DOCKER_HUB,
    ImageName,
    check_parts,
    parse_repository_path,
    split_domain,
)
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.oci.documents import Digest, Manifest
from podman_cvmfs.repository import layout


class OsgNames:
    """Derives names from links, with the repository's own list if there is one."""

    def __init__(self, specs: Iterable[ImageSpec] = ()) -> None:
        self._by_repository: dict[str, list[ImageSpec]] = {}
        #: Registries in the list. With two parts an entry is a user's, whatever the user's name.
        self._registries: set[str] = set()
        for spec in specs:
            self._by_repository.setdefault(spec.repository, []).append(spec)
            if "/" in spec.repository:
                self._registries.add(spec.registry)

    def name_of(self, path: str) -> ImageName:
        """The name of the image at the link ``path`` (``htc/debian:12``), relative to the
        repository.

        The list counts first, since namespaces may look like registries (``joe.doe/app:1``). Of
        several registries in it the last one counts: its image has replaced the others'. A name
        that isn't in the list begins with a registry by podman's rule, or is Docker Hub's. Raises
        InputError for a malformed path.
        """
        repository, _, tag = path.rpartition(":")
        registry = self._listed_registry(path)
        if registry is not None:
            check_parts(registry, repository, tag, path)
            return ImageName(registry, repository, tag)
        if split_domain(path)[0] is not None:
            return parse_repository_path(path)
        if "/" not in repository:
            raise InputError(f"not the path of an image: {printable(path)[:300]!r}")
        check_parts(DOCKER_HUB, repository, tag, path)
        return ImageName(DOCKER_HUB, repository, tag)

    def is_guess(self, path: str) -> bool:
        """Whether Docker Hub is only a guess for the image at this link."""
        return self._listed_registry(path) is None and split_domain(path)[0] is None

    def tells_registry(self, path: str) -> bool:
        """Whether there can be such a registry as the name of this link says, so that it may be
        asked.

        cvmfs-singularity-sync leaves registries out of links: a first part like ``joe.doe`` is a
        user at a registry that only the list tells. A first part with a port is no user, and one
        that the list has as a registry is hardly one. Docker Hub has users without a dot, and no
        repository with more than two parts.
        """
        name = self.name_of(path)
        if name.canonical.registry == DOCKER_HUB:
            return name.canonical.repository.count("/") == 1
        return (
            self._listed_registry(path) is not None
            or ":" in name.registry
            or name.registry == "localhost"
            or name.registry in self._registries
        )

    def _listed_registry(self, path: str) -> str | None:
        repository, _, tag = path.rpartition(":")
        for spec in reversed(self._by_repository.get(repository, [])):
            if spec.matches(ImageName(spec.registry, repository, tag)):
                return spec.registry
        return None


def merged_root(manifest: Manifest) -> str:
    """Where the merged root of the image with this manifest is, relative to the repository.

    Its name is the sha256 of the layers' digests, written one after the other in hexadecimal: a
    link that leads elsewhere is that of another image. (Images that a registry serves by an index
    are under the index's own digest: see ``merged_root_of_index``.)
    """
    digests = "".join(layer.digest.hex for layer in manifest.layers)
    return layout.osg_root(hashlib.sha256(digests.encode()).hexdigest())


def merged_root_of_index(index: Digest) -> str:
    """Its place if only the digest of the index was known."""
    return layout.osg_root_of_index(index.hex)


def source_id(merged: str, name: ImageName) -> Digest:
    """The ID that distinguishes an image: a digest of its merged root, as ``merged_root`` gives it,
    and its name.

    Images that differ only in their configs share a merged root.
    """
    return Digest.of(f"{merged} {name.repository_path}".encode())
