# SPDX-License-Identifier: Apache-2.0
"""Picks the resolver that completes the images of a repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.lists.known import KnownLists
from podman_cvmfs.lists.maker import ListMaker
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.osg import OsgRepository
from podman_cvmfs.repository.protocol import AnyRepository
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.repository.records import PublishedImage
from podman_cvmfs.resolve.ducc import Resolver
from podman_cvmfs.resolve.image import ResolvedImage
from podman_cvmfs.resolve.osg import OsgResolver
from podman_cvmfs.settings.policy import Policy


class AnyResolver(Protocol):
    """Completes images; safe to use from several threads."""

    def resolve(self, published: Sequence[PublishedImage]) -> ResolvedImage:
        """Complete the image that the repository offers under all these names.

        Raises RepositoryError, StoreError.
        """


def _osg_resolver(
    repository: OsgRepository,
    cache: BlobCache,
    registries: RegistryAccess,
    policy: Policy,
    readers: Readers,
    _lists: KnownLists,
    _maker: ListMaker | None,
) -> OsgResolver:
    """It has no layers, so there are no lists of them."""
    return OsgResolver(repository, cache, registries, policy, readers)


_RESOLVERS: Mapping[type, Callable[..., AnyResolver]] = {
    Repository: Resolver,
    OsgRepository: _osg_resolver,
}


def resolver_of(
    repository: AnyRepository,
    cache: BlobCache,
    registries: RegistryAccess,
    policy: Policy,
    readers: Readers,
    lists: KnownLists,
    maker: ListMaker | None,
) -> AnyResolver:
    """The resolver for the layout of ``repository``; ``readers`` read parts of an image, ``lists``
    are those of layers, and ``maker`` makes missing ones."""
    make = _RESOLVERS[type(repository)]
    return make(repository, cache, registries, policy, readers, lists, maker)
