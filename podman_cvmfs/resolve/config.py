# SPDX-License-Identifier: Apache-2.0
"""Find an image's config in cache, repository, blob source or registry, or make one up.

A config counts only if its digest is the image ID.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, RepositoryError, printable
from podman_cvmfs.oci.documents import Digest, ImageConfig, parse_config
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.layout import PODMAN_STORE
from podman_cvmfs.repository.records import PublishedImage, PublishedLayer
from podman_cvmfs.repository.served import NoAnswerError
from podman_cvmfs.resolve.synthesise import has_scripts, synthesise

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
        self._lock = threading.Lock()
        self._is_told = False

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
        data = self._cache.sources.blob(image.image_id)
        if data is not None:
            config = _parsed(data, what)
            self._cache.put(data)
            return config, CACHE
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
            is_complete = has_scripts(self._repository.tree, flat)
            config = synthesise(
                self._repository.tree,
                flat,
                image.image_id,
                diff_ids,
                usual,
                complete=is_complete,
            )
        except NoAnswerError:
            raise
        except RepositoryError as err:
            raise RepositoryError(
                f"{image.name} has no config in the cache or the repository, {reason}, "
                f"and {err.message}",
                "sync again when the registry answers",
            ) from None
        log.info("%s: config synthesised (%s)", image.name, reason)
        if not is_complete:
            self._tell_of_loss(image, flat)
        return config

    def _tell_of_loss(self, image: PublishedImage, flat: str) -> None:
        """Warn once of merged roots that have lost their dotfiles (cvmfs issue 4208)."""
        with self._lock:
            is_known, self._is_told = self._is_told, True
        if not is_known:
            log.warning(
                "%s has lost the files in which DUCC notes environment and command "
                "(%s/.singularity.d). Give podman run a command for %s. Other images of %s "
                "may need that too",
                printable(self._repository.tree.path(flat)),
                printable(flat),
                image.name,
                printable(self._repository.root),
            )


def _parsed(data: bytes, what: str) -> ImageConfig:
    try:
        return parse_config(data, what)
    except InputError as err:
        raise RepositoryError(err.message, err.hint) from None
