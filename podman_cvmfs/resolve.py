# SPDX-License-Identifier: Apache-2.0
"""Join what the repository, the cache and the registry know of an image into a complete one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from podman_cvmfs.blobcache import BlobCache
from podman_cvmfs.errors import (
    InputError,
    PodmanCvmfsError,
    RegistryError,
    RegistryUnreachable,
    RepositoryError,
)
from podman_cvmfs.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Manifest,
    layer_ids,
    parse_config,
    render_manifest,
)
from podman_cvmfs.reference import ImageName
from podman_cvmfs.synthesise import synthesise
from podman_cvmfs.unpacked import PublishedImage, PublishedLayer, Repository

log = logging.getLogger(__name__)

#: Where a config came from: the steps of the ladder.
CACHE, REPOSITORY, REGISTRY, SYNTHESISED = "cache", "repository", "registry", "synthesised"


class ConfigSource(Protocol):
    """What is asked for configs that neither cache nor repository have: a registry's client."""

    def blob(self, name: ImageName, digest: Digest) -> bytes:
        """The blob with ``digest``, checked. Raises RegistryError."""


@dataclass(frozen=True)
class Layer:
    """A layer of a complete image: its ID in the chain, its digests, and its unpacked files.

    ``files`` is the absolute path of them, None if the repository hasn't got them. ``diff_size``
    is in bytes, uncompressed.
    """

    layer_id: str
    diff_id: Digest
    blob: Descriptor
    files: str | None
    diff_size: int


@dataclass(frozen=True)
class FlatRoot:
    """A merged root: its absolute path, its mode, and directories that lost their sticky bit."""

    path: str
    mode: int
    lost_sticky: tuple[str, ...]


@dataclass(frozen=True)
class ResolvedImage:
    """An image with all that a store needs. ``source_id`` is the ID the repository gives it."""

    source_id: Digest
    config: ImageConfig
    config_origin: str
    manifest: bytes
    layers: tuple[Layer, ...]
    flat: FlatRoot | None


class Resolver:
    """Completes images of ``repository``; safe to use from several threads.

    ``registry`` makes the registry client when one is needed; it is None when
    offline. A registry that can't be reached is left alone for the rest of the resolver's life.
    """

    def __init__(
        self,
        repository: Repository,
        cache: BlobCache,
        registry: Callable[[], ConfigSource] | None,
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._make_registry = registry
        self._registry: ConfigSource | None = None
        self._layers: dict[Digest, PublishedLayer | None] = {}
        self._down: dict[str, RegistryError] = {}
        self._lock = threading.Lock()

    def resolve(self, published: Sequence[PublishedImage]) -> ResolvedImage:
        """Complete the image that the repository offers under all these names.

        Raises RepositoryError for what is missing or contradicts itself, StoreError if the cache
        can't be written.
        """
        image = published[0]
        manifest = self._manifest(published)
        layers = [layer for layer in manifest.layers if not layer.is_foreign]
        found = [self._layer(layer.digest) for layer in layers]
        flat = self._flat_root(image.image_id)
        config, origin = self._config(image, found, flat)
        if len(config.diff_ids) != len(layers):
            raise RepositoryError(
                f"the manifest of {image.name} has {len(layers)} layers, "
                f"its config {len(config.diff_ids)}"
            )
        chain = layer_ids(config.diff_ids)
        complete = []
        for layer_id, diff_id, blob, files in zip(chain, config.diff_ids, layers, found):
            if files is not None and files.diff_id not in (None, diff_id):
                raise RepositoryError(
                    f"layer {blob.digest.hex[:12]} of {image.name} has the diff ID "
                    f"{files.diff_id} in layers.json, but {diff_id} in the image's config"
                )
            size = blob.size if files is None or files.diff_size is None else files.diff_size
            path = None if files is None else files.files
            complete.append(Layer(layer_id, diff_id, blob, path, size))
        described = Manifest(
            manifest.media_type,
            replace(manifest.config, digest=config.digest, size=len(config.raw)),
            tuple(layers),
        )
        return ResolvedImage(
            source_id=image.image_id,
            config=config,
            config_origin=origin,
            manifest=render_manifest(described),
            layers=tuple(complete),
            flat=flat,
        )

    def _manifest(self, published: Sequence[PublishedImage]) -> Manifest:
        """The manifest under any of the names: one of them may be in the midst of a retag."""
        failure: PodmanCvmfsError | None = None
        for image in published:
            try:
                return self._repository.manifest(image)
            except RepositoryError as err:
                failure = failure or err
        assert failure is not None
        raise failure

    def _layer(self, digest: Digest) -> PublishedLayer | None:
        # Two threads may read the same layer at once; that costs less than a lock around reads.
        if digest not in self._layers:
            self._layers[digest] = self._repository.layer(digest)
        return self._layers[digest]

    def _flat_root(self, image_id: Digest) -> FlatRoot | None:
        path = self._repository.flat_root(image_id)
        if path is None:
            return None
        tree = self._repository.tree
        root = tree.lstat(path)
        lost = []
        for name in ("tmp", "var/tmp"):
            attributes = tree.lstat(f"{path}/{name}")
            if attributes is not None and attributes.st_mode & 0o177777 == 0o040777:
                lost.append(name)
        mode = root.st_mode & 0o7777 if root else 0o755
        return FlatRoot(tree.path(path), mode, tuple(lost))

    def _config(
        self,
        image: PublishedImage,
        layers: Sequence[PublishedLayer | None],
        flat: FlatRoot | None,
    ) -> tuple[ImageConfig, str]:
        """The image's config and where it came from, by the ladder."""
        what = f"the config of {image.name}"
        data = self._cache.get(image.image_id)
        if data is not None:
            return _parsed(data, what), CACHE
        data = self._repository.config_blob(image.image_id)
        if data is not None:
            if Digest.of(data) == image.image_id:
                return _parsed(data, what), REPOSITORY
            log.warning("%s in the repository's podmanStore has another digest", what)
        data, reason = self._from_registry(image)
        if data is not None:
            config = _parsed(data, what)
            self._cache.put(data)
            return config, REGISTRY
        return self._synthesised(image, layers, flat, reason), SYNTHESISED

    def _from_registry(self, image: PublishedImage) -> tuple[bytes | None, str]:
        """The config from the registry, or None and why not."""
        if self._make_registry is None:
            return None, "the registry was left out (--offline)"
        with self._lock:
            # Made on demand: the libraries behind it take longer to load than a no-op sync.
            self._registry = self._registry or self._make_registry()
        host = image.name.registry
        known = self._down.get(host)
        if known is not None:
            return None, known.message
        try:
            return self._registry.blob(image.name.canonical, image.image_id), ""
        except RegistryUnreachable as err:
            with self._lock:
                if host not in self._down:
                    log.warning("%s", err.message)
                self._down[host] = err
            return None, err.message
        except RegistryError as err:
            return None, err.message

    def _synthesised(
        self,
        image: PublishedImage,
        layers: Sequence[PublishedLayer | None],
        flat: FlatRoot | None,
        reason: str,
    ) -> ImageConfig:
        diff_ids = [layer.diff_id for layer in layers if layer and layer.diff_id]
        try:
            if flat is None or len(diff_ids) != len(layers):
                raise RepositoryError("the repository holds too little to make one up")
            place = flat.path[len(self._repository.root) + 1 :]
            config = synthesise(self._repository.tree, place, image.image_id, diff_ids)
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
