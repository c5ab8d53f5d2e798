# SPDX-License-Identifier: Apache-2.0
"""Complete images of which the repository has only a merged root.

The link tells name and merged root. The registry tells the manifest for that name. If the merged
root was made from its layers, manifest and config are the image's own. If not, the tag has moved.
Then a config is made up, and the merged root is its only layer.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, RegistryError, RepositoryError, printable
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci.documents import (
    MAX_DOCUMENT,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    ImageConfig,
    Manifest,
    layer_ids,
    parse_config,
    parse_json,
    parse_manifest,
    render_manifest,
)
from podman_cvmfs.oci.genuine import Genuine, find_genuine, judge
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.registry.access import RegistryAccess, RegistrySource
from podman_cvmfs.repository.osg import OsgImage, OsgRepository
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.repository.records import PublishedImage
from podman_cvmfs.repository.served import NoAnswerError
from podman_cvmfs.resolve.config import CACHE, REGISTRY, SYNTHESISED
from podman_cvmfs.resolve.image import Layer, ResolvedImage
from podman_cvmfs.resolve.manifest import CONVERTED, GENUINE, REBUILT, is_readable, lists
from podman_cvmfs.resolve.skeletons import Skeletons
from podman_cvmfs.resolve.synthesise import architecture_of, synthesise
from podman_cvmfs.resolve.whole import flat_root_at
from podman_cvmfs.settings.policy import Policy

log = logging.getLogger(__name__)

#: Singularity's label for the image that a root was made of (its user guide, "labels").
_BUILT_FROM = "org.label-schema.usage.singularity.deffile.from"


@dataclass(frozen=True)
class _Documents:
    """The documents of an image, and the origin of its config; ``index`` lists the manifest."""

    manifest: Manifest
    raw: bytes
    index: bytes | None
    config: ImageConfig
    origin: str


class OsgResolver:
    """Completes images of ``repository``; safe to use from several threads."""

    def __init__(
        self,
        repository: OsgRepository,
        cache: BlobCache,
        registries: RegistryAccess,
        policy: Policy,
        readers: Readers,
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._registries = registries
        self._above = Skeletons(repository.tree, policy)

    def resolve(self, published: Sequence[PublishedImage]) -> ResolvedImage:
        """Complete the image that the repository offers under all these names.

        Raises RepositoryError for missing or contradictory parts, StoreError if the cache can't be
        written.
        """
        image = published[0]
        assert isinstance(image, OsgImage)
        tree = self._repository.tree
        attributes = tree.lstat(image.merged)
        if attributes is None or not stat.S_ISDIR(attributes.st_mode):
            raise RepositoryError(
                f"{image.name} leads to {tree.path(image.merged)}, which is missing"
            )
        if tree.is_empty(image.merged):
            raise RepositoryError(
                f"{image.name} leads to {tree.path(image.merged)}, which is empty"
            )
        documents, reason = self._find(image)
        if documents is None:
            documents = self._made_up(image)
            log.info("%s: config synthesised (%s)", image.name, reason)
        config = documents.config
        blobs = [layer for layer in documents.manifest.layers if not layer.is_foreign]
        chain = zip(layer_ids(config.diff_ids), config.diff_ids, blobs)
        flat = flat_root_at(tree, image.merged)
        is_genuine = documents.origin != SYNTHESISED
        converts = is_genuine and not is_readable(documents.raw)
        return ResolvedImage(
            source_id=image.image_id,
            config=config,
            config_origin=documents.origin,
            manifest=render_manifest(parse_manifest(documents.raw)) if converts else documents.raw,
            layers=tuple(Layer(*each, None, each[-1].size) for each in chain),
            flat=flat,
            manifest_origin=CONVERTED if converts else GENUINE if is_genuine else REBUILT,
            index=None if converts else documents.index,
            skeleton=self._above.of_merged(tree.at(image.merged), flat.lost_sticky, config),
        )

    def _find(self, image: OsgImage) -> tuple[_Documents | None, str]:
        """The genuine documents, or why there are none. They come from the cache, a blob source or
        the registry."""
        found = self._judged(image, *self._cache.manifests(image.image_id)) or self._shared(image)
        if found is None:
            if not image.tells_registry:
                return None, "its registry is unknown: add the repository's own list as a wish list"
            answer, reason = self._registries.ask(
                image.name, lambda registry: self._asked(image, registry)
            )
            if answer is None:
                return None, reason or "the tag leads to another image by now"
            found = answer
            self._cache.keep_manifests(image.image_id, found.raw, found.index)
        digest = found.manifest.config.digest
        data, origin = self._cache.get(digest), CACHE
        if data is None:
            data = self._cache.sources.blob(digest)
            if data is not None:
                self._cache.put(data)
        if data is None:
            data, reason = self._registries.ask(
                image.name, lambda registry: registry.blob(image.name.canonical, digest)
            )
            if data is None:
                return None, reason
            origin = REGISTRY
        config = _parsed(data, found.manifest, f"the config of {image.name}")
        if origin == REGISTRY:
            self._cache.put(data)
        return _Documents(found.manifest, found.raw, found.index, config, origin), ""

    def _shared(self, image: OsgImage) -> Genuine | None:
        """The manifest that a blob source has. It is kept in the cache."""
        sources = self._cache.sources
        documents = [sources.blob(each) for each in sources.manifest_digests(image.image_id) or ()]
        raw, index = (*documents, None, None)[:2]
        found = self._judged(image, raw, index)
        if found is None or (index is not None and not lists(index, found.digest)):
            return None
        self._cache.keep_manifests(image.image_id, found.raw, found.index)
        return found

    def _judged(self, image: OsgImage, raw: bytes | None, index: bytes | None) -> Genuine | None:
        """The manifest ``raw``, found by ``index``, if it is the image's."""
        if raw is None:
            return None
        try:
            found = judge(raw, image.is_described_by, f"the manifest of {image.name}")
        except RegistryError:
            return None
        if not isinstance(found, Genuine):
            return None
        return self._if_listed(image, Genuine(found.raw, found.manifest, index))

    def _asked(self, image: OsgImage, registry: RegistrySource) -> Genuine | None:
        stated = architecture_of(self._repository.tree, image.merged, ())
        # Singularity takes the manifest for the machine it runs on.
        platform = Platform(stated) if stated else Platform.of_host()
        found = find_genuine(
            lambda reference: registry.manifest(image.name.canonical, reference)[0],
            str(image.name.digest or image.name.tag),
            image.is_described_by,
            platform.architecture,
            platform.variant,
            f"the manifest of {image.name}",
        )
        return self._if_listed(image, found) if isinstance(found, Genuine) else None

    @staticmethod
    def _if_listed(image: OsgImage, found: Genuine) -> Genuine | None:
        return found if image.may_come_by(found.index_digest) else None

    def _check_guess(self, image: OsgImage) -> None:
        """Raise RepositoryError if Singularity has noted another registry for the image."""
        place = f"{image.merged}/.singularity.d/labels.json"
        data = self._repository.tree.read(place, MAX_DOCUMENT)
        try:
            labels = parse_json(data or b"{}", place)
            built = parse_name(str(labels.get(_BUILT_FROM, ""))) if labels else image.name
        except (InputError, AttributeError):
            return
        if built.registry != image.name.canonical.registry:
            raise RepositoryError(
                f"{image.name} may not be Docker Hub's: its merged root was made from {built}",
                "add the repository's own list as a wish list: it names the registries",
            )

    def _made_up(self, image: OsgImage) -> _Documents:
        if image.is_guess:
            self._check_guess(image)
        diff_id = Digest.of(f"podman-cvmfs merged root {image.merged}".encode())
        try:
            config = synthesise(
                self._repository.tree, image.merged, image.root_digest, [diff_id], complete=False
            )
        except NoAnswerError:
            raise
        except RepositoryError as err:
            raise RepositoryError(f"{image.name}: {printable(err.message)}", err.hint) from None
        manifest = Manifest(
            OCI_MANIFEST,
            Descriptor(OCI_CONFIG, config.digest, len(config.raw)),
            (Descriptor(OCI_LAYER, diff_id, 0),),
        )
        return _Documents(manifest, render_manifest(manifest), None, config, SYNTHESISED)


def _parsed(data: bytes, manifest: Manifest, what: str) -> ImageConfig:
    try:
        config = parse_config(data, what)
    except InputError as err:
        raise RepositoryError(err.message, err.hint) from None
    layers = [layer for layer in manifest.layers if not layer.is_foreign]
    if len(config.diff_ids) != len(layers):
        raise RepositoryError(
            f"{what} has {len(config.diff_ids)} layers, its manifest {len(layers)}"
        )
    return config
