# SPDX-License-Identifier: Apache-2.0
"""Complete the images that repositories offer and lay them out for the store, many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from podman_cvmfs.errors import (
    InputError,
    OtherPlatformError,
    PodmanCvmfsError,
    RepositoryError,
    StoreError,
    printable,
)
from podman_cvmfs.plan.lay_out import mount_bytes, view_of
from podman_cvmfs.plan.make import Candidate, candidate_of
from podman_cvmfs.podman.features import SHORT_MOUNT_DATA, mount_data_limit
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.repository.offers import Offer
from podman_cvmfs.repository.tree import READERS
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.resolve.manifest import UNANSWERED
from podman_cvmfs.resolve.resolvers import AnyResolver, resolver_of
from podman_cvmfs.sync.report import Errors
from podman_cvmfs.sync.request import Wishes
from podman_cvmfs.util.progress import track

#: Reading an image's few files from a local disk or a warm cache takes less, in seconds.
_SLOW = 0.01

T = TypeVar("T")
R = TypeVar("R")


class _Layout:
    """Completes images and lays them out."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._registries = RegistryAccess(wishes.registry)
        self._resolvers: dict[str, AnyResolver] = {}

    @property
    def silent(self) -> Mapping[str, str]:
        """Registries that left a question unanswered, and why."""
        return self._registries.silent

    def _resolver(self, offer: Offer) -> AnyResolver:
        wishes, repository = self._wishes, offer.repository
        if repository.root not in self._resolvers:
            self._resolvers[repository.root] = resolver_of(
                repository, wishes.cache, self._registries, wishes.policy_of(repository.root)
            )
        return self._resolvers[repository.root]

    def candidate(self, group: Sequence[Offer]) -> Candidate:
        """Raises RepositoryError for an image that can't be shown right, among them
        OtherPlatformError; StoreError."""
        name = group[0].image.name
        image = self._resolver(group[0]).resolve([offer.image for offer in group])
        if not self._wishes.platform.runs(image.config.platform):
            raise OtherPlatformError(
                f"{name} is for {printable(str(image.config.platform))}, "
                f"not for {self._wishes.platform}"
            )
        try:
            view = view_of(image, self._wishes.policy_of(group[0].repository.root))
        except RepositoryError as err:
            raise RepositoryError(f"{name}: {err.message}", err.hint) from None
        lowers = len(view.layers[-1][1].lowers) if view.layers else 0
        length = mount_bytes(lowers, self._wishes.store.path)
        # Only a deep image is worth asking podman for its version.
        limit = mount_data_limit() if length > SHORT_MOUNT_DATA else None
        if limit is not None and length > limit:
            raise RepositoryError(
                f"{name}: podman 4 can't mount its {len(image.layers)} layers: "
                f"{length} bytes of mount options, where {limit} fit",
                "use podman 5, the flat view, or a store with a shorter path",
            )
        return candidate_of(image, view, group[0].repository.root)


@dataclass(frozen=True)
class Completed:
    """What became of images that were to be completed."""

    #: The complete ones, by source ID.
    candidates: Mapping[str, Candidate]
    #: Names of images that couldn't be completed.
    failed: Errors
    #: Names of images that turned out to be for another architecture.
    left_out: Errors
    #: Registries that left a question unanswered, with the reason.
    silent: Mapping[str, str]
    #: Registry -> names of images whose config or manifest is made up because of its silence.
    waiting: Mapping[str, Sequence[str]]


def resolve_all(wishes: Wishes, todo: Mapping[str, list[Offer]]) -> Completed:
    """Complete images, by source ID, in parallel.

    Raises InputError for settings of registries that can't be read, StoreError for such a cache.
    """
    layout = _Layout(wishes)

    def resolve(group: list[Offer]) -> Candidate | PodmanCvmfsError:
        try:
            return layout.candidate(group)
        except (InputError, StoreError):
            raise  # the settings of registries, or the cache: no fault of this image
        except PodmanCvmfsError as err:
            return err

    candidates: dict[str, Candidate] = {}
    failed: dict[str, PodmanCvmfsError] = {}
    left_out: dict[str, PodmanCvmfsError] = {}
    waiting: dict[str, list[str]] = {}
    results = track(_parallel(resolve, todo.values()), len(todo), "Reading images")
    for (source, group), result in zip(todo.items(), results):
        if isinstance(result, Candidate):
            candidates[source] = result
            stored = result.stored
            if stored.config_origin == SYNTHESISED or stored.manifest_origin == UNANSWERED:
                for name in (offer.image.name for offer in group):
                    if name.canonical.registry in layout.silent:
                        waiting.setdefault(name.canonical.registry, []).append(str(name))
        else:
            kind = left_out if isinstance(result, OtherPlatformError) else failed
            kind.update({str(offer.image.name): result for offer in group})
    return Completed(candidates, failed, left_out, layout.silent, waiting)


def _parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of ``work`` in order; what hasn't begun is dropped on an interrupt.

    It is done one by one until an item is slow: reads that don't wait for a network gain nothing
    from threads, and threads cost more than such reads.
    """
    pending = iter(items)
    for item in pending:
        start = time.monotonic()
        yield work(item)
        if time.monotonic() - start > _SLOW:
            break
    pool = ThreadPoolExecutor(READERS)
    try:
        yield from pool.map(work, pending)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
