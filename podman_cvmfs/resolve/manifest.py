# SPDX-License-Identifier: Apache-2.0
"""Find an image's genuine manifest in cache, repository, blob source or registry.

DUCC's manifest.json is not the registry's, byte for byte, so its digest is not the image's. With
the genuine one ``podman run name@sha256:..`` and ``podman images --digests`` are right.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import NotInRegistry, RegistryError
from podman_cvmfs.oci.documents import Digest, ImageConfig, Manifest, parse_manifest
from podman_cvmfs.oci.genuine import Genuine, Index, Moved, find_genuine, judge
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.podman.features import reads_docker_zstd
from podman_cvmfs.registry.access import RegistryAccess, RegistrySource
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.records import PublishedImage

log = logging.getLogger(__name__)

#: The origins of a manifest: the registry, or the repository's facts, because the manifest is lost,
#: or because the registry didn't answer or the site's blob sources don't have it yet, or because
#: podman here can't read the registry's.
GENUINE, REBUILT, UNANSWERED, CONVERTED = "genuine", "rebuilt", "unanswered", "converted"


@dataclass(frozen=True)
class FoundManifest:
    """A genuine manifest and, if it was found by one, the index that lists it."""

    manifest: bytes
    index: bytes | None = None


class ManifestLadder:
    """Finds manifests of images of ``repository``; safe to use from several threads."""

    def __init__(
        self, repository: Repository, cache: BlobCache, registries: RegistryAccess
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._registries = registries

    def find(
        self, image: PublishedImage, config: ImageConfig, stated: Manifest
    ) -> tuple[FoundManifest | None, str]:
        """The genuine manifest of ``image``, whose config is ``config``, and GENUINE.

        None and REBUILT if nobody has it, None and UNANSWERED if somebody may have it later.
        ``stated`` is the repository's description of it. If the tag now leads to another image,
        that one's manifest is not used. Raises StoreError if the cache can't be written.
        """
        layers = [layer.digest for layer in stated.layers]
        manifest, index = self._cache.manifests(image.image_id)
        cached = None if manifest is None else self._genuine(manifest, image)
        if cached is None or [layer.digest for layer in cached.manifest.layers] != layers:
            kept, its_index = self._beside_config(image, stated)
            if kept is not None:
                return FoundManifest(kept, its_index), GENUINE
        if cached is not None:
            return FoundManifest(cached.raw, index), GENUINE
        shared, is_lost = self._shared(image)
        if shared is not None:
            self._cache.keep_manifests(image.image_id, shared.manifest, shared.index)
            return shared, GENUINE
        if self._registries.is_offline:
            is_open = bool(self._cache.sources) and not is_lost
            return None, UNANSWERED if is_open else REBUILT
        # An index lists the image for what DUCC has taken it for; its config may say otherwise.
        platform = image.platform or config.platform
        found, reason = self._registries.ask(
            image.name,
            lambda registry: self._fetched(registry, image, platform),
        )
        if not isinstance(found, Genuine):
            log.debug("%s: %s", image.name, reason or "the registry has no manifest of it any more")
            if self._registries.left_open(image.name):
                return None, UNANSWERED
            # Hosts that ask this one's cache need not ask again. But one that has another login
            # may get the manifest that this one is refused.
            if not reason:
                self._cache.keep_manifest_digests(image.image_id, ())
            return None, REBUILT
        self._cache.keep_manifests(image.image_id, found.raw, found.index)
        return FoundManifest(found.raw, found.index), GENUINE

    @staticmethod
    def _fetched(
        registry: RegistrySource, image: PublishedImage, platform: Platform
    ) -> Genuine | Moved | None:
        """What the image's tag or digest leads to; None if the registry doesn't have it. Raises
        RegistryError."""
        try:
            return find_genuine(
                lambda reference: registry.manifest(image.name.canonical, reference)[0],
                str(image.name.digest or image.name.tag),
                image.is_described_by,
                platform.architecture,
                platform.variant,
                f"the manifest of {image.name}",
            )
        except NotInRegistry as err:
            log.debug("%s", err.message)
            return None

    def _shared(self, image: PublishedImage) -> tuple[FoundManifest | None, bool]:
        """The manifest that a blob source has, and whether the site knows that it is lost."""
        sources = self._cache.sources
        digests = sources.manifest_digests(image.image_id)
        if not digests:
            return None, digests is not None
        documents = [sources.blob(digest) for digest in digests]
        manifest, index = documents[0], documents[1] if len(documents) > 1 else None
        if manifest is None or self._genuine(manifest, image) is None:
            return None, False
        if index is None or not lists(index, digests[0]):
            return FoundManifest(manifest), False
        return FoundManifest(manifest, index), False

    def _beside_config(
        self, image: PublishedImage, stated: Manifest
    ) -> tuple[bytes | None, bytes | None]:
        """The manifest that the publisher kept and the index that lists it, None for neither.

        A config may have several manifests, because layers can be compressed in several ways. The
        manifest with the repository's layers comes first.
        """
        manifests, indexes = [], []
        for document in self._repository.manifest_blobs(image.image_id):
            try:
                found = judge(document, image.is_described_by, "the manifest")
            except RegistryError:
                continue
            if isinstance(found, Genuine):
                manifests.append(found)
            elif isinstance(found, Index):
                indexes.append(found)
        layers = [layer.digest for layer in stated.layers]
        manifests.sort(key=lambda each: [one.digest for one in each.manifest.layers] != layers)
        for manifest in manifests[:1]:
            listing = [
                index.raw
                for index in indexes
                if any(child.digest == manifest.digest for child in index.children)
            ]
            return manifest.raw, listing[0] if listing else None
        return None, None

    @staticmethod
    def _genuine(manifest: bytes, image: PublishedImage) -> Genuine | None:
        try:
            found = judge(manifest, image.is_described_by, "the manifest")
        except RegistryError:
            return None
        return found if isinstance(found, Genuine) else None


def is_readable(manifest: bytes) -> bool:
    """Whether podman here reads the genuine ``manifest``. Some podmans show no image at all beside
    one that they can't read."""
    return not parse_manifest(manifest, as_it_is=True).has_docker_zstd or reads_docker_zstd()


def lists(index: bytes, manifest: Digest) -> bool:
    """Whether the document ``index`` is an index that lists the manifest with this digest."""
    try:
        found = judge(index, lambda _: False, "the index")
    except RegistryError:
        return False
    return isinstance(found, Index) and any(child.digest == manifest for child in found.children)
