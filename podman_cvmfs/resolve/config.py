# SPDX-License-Identifier: Apache-2.0
"""Find an image's config in cache, repository or registry, or make one up.

A config counts only if its digest is the image ID.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, RepositoryError
from podman_cvmfs.oci.documents import Digest, ImageConfig, parse_config
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.layout import PODMAN_STORE
from podman_cvmfs.repository.records import PublishedImage, PublishedLayer
from podman_cvmfs.repository.served import NoAnswerError
from podman_cvmfs.resolve.synthesise import synthesise

log = logging.getLogger(__name__)

#: The origins of a config: the steps of the ladder.
CACHE, REPOSITORY, REGISTRY, SYNTHESISED = "cache", "repository", "registry", "synthesised"


class ConfigLadder:
    """Finds configs of images of ``repository``; safe to use from several threads."""

    def __init__(
        self, repository: Repository, cache: BlobCache, registries: RegistryAccess
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._registries = registries

    def find(
        self,
        image: PublishedImage,
        layers: Callable[[], Sequence[PublishedLayer | None]],
        flat: str | None,
    ) -> tuple[ImageConfig, str]:
        """The config of ``image`` and where it came from.

        What ``layers`` reads and ``flat`` (its merged root, relative to the repository) are what
        one may be made up from. Raises RepositoryError if all fails, StoreError if the cache can't
        be written.
        """
        what = f"the config of {image.name}"
        data = self._cache.get(image.image_id)
        if data is not None:
            return _parsed(data, what), CACHE
        data = self._repository.config_blob(image.image_id)
        if data is not None:
            if Digest.of(data) == image.image_id:
                return _parsed(data, what), REPOSITORY
            log.warning("%s in the repository's %s has another digest", what, PODMAN_STORE)
        data, reason = self._registries.ask(
            image.name, lambda registry: registry.blob(image.name.canonical, image.image_id)
        )
        if data is not None:
            config = _parsed(data, what)
            self._cache.put(data)
            return config, REGISTRY
        return self._synthesised(image, layers(), flat, reason), SYNTHESISED

    def _synthesised(
        self,
        image: PublishedImage,
        layers: Sequence[PublishedLayer | None],
        flat: str | None,
        reason: str,
    ) -> ImageConfig:
        diff_ids = [layer.diff_id for layer in layers if layer and layer.diff_id]
        try:
            if flat is None or len(diff_ids) != len(layers):
                raise RepositoryError("the repository has too little to make one up")
            stated = image.platform
            usual = "amd64" if stated is None else stated.architecture
            config = synthesise(self._repository.tree, flat, image.image_id, diff_ids, usual)
        except NoAnswerError:
            raise
        except RepositoryError as err:
            raise RepositoryError(
                f"{image.name} has no config in the cache or the repository, {reason}, "
                f"and {err.message}",
                "sync again when the registry answers",
            ) from None
        log.info("%s: config synthesised (%s)", image.name, reason)
        return config


def _parsed(data: bytes, what: str) -> ImageConfig:
    try:
        return parse_config(data, what)
    except InputError as err:
        raise RepositoryError(err.message, err.hint) from None
