# SPDX-License-Identifier: Apache-2.0
"""Complete the images that repositories offer and lay them out for the store, many at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from podman_cvmfs.errors import (
    InputError,
    OtherPlatformError,
    PodmanCvmfsError,
    RepositoryError,
    StoreError,
    printable,
)
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.plan.lay_out import mount_bytes, view_of
from podman_cvmfs.plan.make import StorableImage, storable_image
from podman_cvmfs.podman.features import SHORT_MOUNT_DATA, mount_data_limit
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.repository.offers import Offer
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.repository.served import Health, NoAnswerError, health_of
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.resolve.manifest import UNANSWERED
from podman_cvmfs.resolve.resolvers import AnyResolver, resolver_of
from podman_cvmfs.sync.report import Errors
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.util.progress import track

log = logging.getLogger(__name__)

#: An answer that is waited for longer is told of, in seconds.
_REMARKABLE = 2.0
#: So long an answer is waited for. A dead server's client says so after 5 seconds; a large
#: catalogue over a slow network takes its time.
_PATIENCE = 60.0


class _Layout:
    """Completes images and lays them out."""

    def __init__(self, request: SyncRequest, readers: Readers) -> None:
        self._request = request
        self._registries = RegistryAccess(request.registry)
        self._readers = readers
        self._resolvers: dict[str, AnyResolver] = {}
        self.notices: list[str] = []

    @property
    def silent(self) -> Mapping[str, str]:
        """Registries that left a question unanswered, and why."""
        return self._registries.silent

    def _resolver(self, offer: Offer) -> AnyResolver:
        request, repository = self._request, offer.repository
        if repository.root not in self._resolvers:
            self._resolvers[repository.root] = resolver_of(
                repository,
                request.cache,
                self._registries,
                request.policy_of(repository.root),
                self._readers,
                request.store.lists,
                request.maker,
            )
        return self._resolvers[repository.root]

    def storable(self, group: Sequence[Offer]) -> StorableImage:
        """The image that all offers of ``group`` are of.

        Raises RepositoryError for an image that can't be shown correctly, OtherPlatformError for
        another platform; StoreError."""
        name = group[0].image.name
        image = self._resolver(group[0]).resolve([offer.image for offer in group])
        doubt = self._doubt(group, image.config.platform)
        try:
            view = view_of(image, self._request.policy_of(group[0].repository.root))
        except RepositoryError as err:
            raise RepositoryError(f"{name}: {err.message}", err.hint) from None
        lowers = len(view.layers[-1][1].lowers) if view.layers else 0
        length = mount_bytes(lowers, self._request.store.path)
        # podman's version matters only for deep images.
        limit = mount_data_limit() if length > SHORT_MOUNT_DATA else None
        if limit is not None and length > limit:
            raise RepositoryError(
                f"{name}: podman 4 can't mount its {len(image.layers)} layers: "
                f"{length} bytes of mount options, where {limit} fit",
                "use podman 5, the flat view, or a store with a shorter path",
            )
        self.notices.extend((*doubt, *image.notices))
        return storable_image(image, view, group[0].repository.root)

    def _doubt(self, group: Sequence[Offer], stated: Platform) -> list[str]:
        """A notice if the image, whose config says that it is for ``stated``, may not be for the
        wanted platform. Raises OtherPlatformError if it isn't for it.

        As in podman, an index counts more than a config, except for the operating system: DUCC
        takes manifests from an index by the architecture alone.
        """
        name, wanted = group[0].image.name, self._request.platform
        its = printable(str(stated))
        if not stated.is_readable:
            raise OtherPlatformError(f"{name} is for {its!r}: podman can't read that")
        if wanted.runs(stated):
            if not stated.architecture or stated.tells_architecture:
                return []
            return [f"{name}: its config says {its!r}, no known architecture (podman warns)"]
        places = [offer.image.place for offer in group if offer.image.place]
        if not places or stated.os != wanted.os:
            raise OtherPlatformError(f"{name} is for {its}, not for {wanted}")
        where = printable(places[0])
        return [f"{name} is published in {where}, but its config says {its} (podman warns)"]


@dataclass(frozen=True)
class Completed:
    """The results of completing images."""

    #: The complete ones, by source ID.
    storable: Mapping[str, StorableImage]
    #: Names of images that couldn't be completed.
    failed: Errors
    #: Repositories that have stopped to answer, by path. Nothing more was asked of them.
    down: Errors
    #: Names of images that turned out to be for another platform.
    left_out: Errors
    #: Images whose platform is in doubt.
    notices: Sequence[str]
    #: Registries that left a question unanswered, with the reason.
    silent: Mapping[str, str]
    #: Registry -> names of images whose config or manifest is made up because of its silence.
    waiting: Mapping[str, Sequence[str]]


def resolve_all(request: SyncRequest, todo: Mapping[str, list[Offer]]) -> Completed:
    """Complete images, by source ID, in parallel.

    Raises InputError for settings of registries that can't be read, StoreError for such a cache.
    """
    healths = _healths(todo.values())
    readers = Readers(is_slow=bool(healths))
    layout = _Layout(request, readers)

    def resolve(group: list[Offer]) -> StorableImage | PodmanCvmfsError:
        try:
            return layout.storable(group)
        except (InputError, StoreError):
            raise  # the settings of registries, or the cache: no fault of this image
        except PodmanCvmfsError as err:
            return err

    def without(group: list[Offer], seconds: float) -> PodmanCvmfsError | None:
        return _lost_patience(healths.get(group[0].repository.root), seconds)

    storable: dict[str, StorableImage] = {}
    failed: dict[str, PodmanCvmfsError] = {}
    left_out: dict[str, PodmanCvmfsError] = {}
    waiting: dict[str, list[str]] = {}
    results = track(readers.map(resolve, todo.values(), without), len(todo), "Reading images")
    for (source, group), result in zip(todo.items(), results):
        if isinstance(result, StorableImage):
            storable[source] = result
            stored = result.stored
            if stored.config_origin == SYNTHESISED or stored.manifest_origin == UNANSWERED:
                for name in (offer.image.name for offer in group):
                    if name.canonical.registry in layout.silent:
                        waiting.setdefault(name.canonical.registry, []).append(str(name))
        else:
            kind = left_out if isinstance(result, OtherPlatformError) else failed
            kind.update({str(offer.image.name): result for offer in group})
    down = {root: health.outage for root, health in healths.items() if health.outage}
    # These have failed for the same reason, before it was clear.
    for group in todo.values():
        if group[0].repository.root in down:
            for offer in group:
                if isinstance(failed.get(str(offer.image.name)), NoAnswerError):
                    del failed[str(offer.image.name)]
    notices = sorted(layout.notices)
    return Completed(storable, failed, down, left_out, notices, layout.silent, waiting)


def _healths(groups: Iterable[Sequence[Offer]]) -> dict[str, Health]:
    """The healths of the repositories that are served, by path."""
    trees = {group[0].repository.root: group[0].repository.tree for group in groups}
    found = ((root, health_of(tree)) for root, tree in trees.items())
    return {root: health for root, health in found if health is not None}


def _lost_patience(health: Health | None, seconds: float) -> PodmanCvmfsError | None:
    """What to go on with if nobody should wait for that repository any more.

    ``seconds`` is how long one image has been waited for; the registry may be slow, too.
    """
    if health is not None and health.outage is not None:
        # Reads under way fail one after the other, each after seconds.
        return health.outage
    waited_for = health.waited_for() if health is not None and seconds > _REMARKABLE else None
    if health is None or waited_for is None:
        return None
    path, since = waited_for
    if since > _REMARKABLE and health.is_news(path):
        log.info("waiting for an answer: %s", printable(path))
    if since < _PATIENCE:
        return None
    return health.give_up(path, f"no answer within {_PATIENCE:.0f} seconds")
