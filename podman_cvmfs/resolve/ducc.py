# SPDX-License-Identifier: Apache-2.0
"""Complete an image from DUCC's tree, the cache and the registry."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import PodmanCvmfsError, RepositoryError
from podman_cvmfs.lists.known import KnownLists, NoLists
from podman_cvmfs.lists.maker import ListMaker
from podman_cvmfs.oci.documents import (
    Descriptor,
    Digest,
    ImageConfig,
    Manifest,
    layer_ids,
    render_manifest,
)
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.repository import layout
from podman_cvmfs.repository.ducc import Repository
from podman_cvmfs.repository.owners import have_lost_owners, is_a_strangers
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.repository.records import PublishedImage, PublishedLayer
from podman_cvmfs.repository.tree import Tree
from podman_cvmfs.repository.whiteouts import Markers, scan
from podman_cvmfs.resolve.config import SYNTHESISED, ConfigLadder
from podman_cvmfs.resolve.image import (
    FileList,
    FlatRoot,
    Layer,
    ResolvedImage,
    can_be_pushed,
    view_shown,
)
from podman_cvmfs.resolve.manifest import CONVERTED, REBUILT, ManifestLadder, is_readable
from podman_cvmfs.resolve.shown import ShownRoot
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.resolve.skeletons import Skeletons
from podman_cvmfs.resolve.whole import HINT, find_merged_root, require_layers
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse, View

#: How many descriptions of layers are kept in memory: many images share a base.
_LAYERS_KEPT = 4096


class Resolver:
    """Completes images of ``repository`` as far as ``policy`` needs it; safe to use from several
    threads."""

    def __init__(
        self,
        repository: Repository,
        cache: BlobCache,
        registries: RegistryAccess,
        policy: Policy,
        readers: Readers,
        lists: KnownLists | None = None,
        maker: ListMaker | None = None,
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._configs = ConfigLadder(repository, cache, registries)
        self._manifests = ManifestLadder(repository, cache, registries)
        self._policy = policy
        self._readers = readers
        self._registries = registries
        self._lists = lists or NoLists()
        self._maker = maker
        self._layers: dict[Digest, PublishedLayer | None] = {}
        self._above = Skeletons(repository.tree, policy)
        self._skeletons: dict[tuple[str, str, bool], tuple[Skeleton, Skeleton]] = {}

    def resolve(self, published: Sequence[PublishedImage]) -> ResolvedImage:
        """Complete the image that the repository offers under all these names.

        Raises RepositoryError for missing or contradictory parts, StoreError if the cache can't be
        written.
        """
        image = published[0]
        manifest = self._manifest(published)
        blobs = [layer for layer in manifest.layers if not layer.is_foreign]
        flat, lack = find_merged_root(self._repository, image, blobs)
        config, origin = self._configs.find(
            image,
            lambda: self._described(blobs, len(blobs)),
            None if flat is None else layout.flat_directory(image.image_id.hex),
        )
        self._make_lists(image, blobs, config, flat)
        listed = self._listed(blobs, config.diff_ids)
        needed = self._needed(blobs, flat, listed is not None)
        found = self._described(needed, len(blobs))
        layers = self._complete(image, blobs, found, config)
        if listed is not None:
            layers = [replace(layer, listed=each) for layer, each in zip(layers, listed)]
        if flat is not None and len(layers) == 1 and layers[0].files is not None:
            flat = replace(flat, is_better=have_lost_owners(self._at(layers[0].files)))
        shown_by = view_shown(self._policy, layers, flat)
        if shown_by is View.LAYERS:
            what = f"{lack}, and " if lack else ""
            require_layers(self._repository, layers, f"{image.name}: {what}")
        elif shown_by is View.FLAT and flat is None:
            reason = lack or "the repository has no merged root for it"
            raise RepositoryError(f"{image.name}: {reason}", HINT)
        is_listed_only = shown_by is View.EXACT and can_be_pushed(self._policy, layers)
        if is_listed_only:
            pass  # the lists tell everything
        elif self._needs_markers(layers, shown_by):
            layers = [self._with_markers(layer) for layer in layers]
        elif self._policy.overlay is Overlay.FUSE and self._policy.reuse is not Reuse.NONE:
            # A layer that deletes must not be advertised there, but the base should be.
            layers[:1] = [self._with_markers(layer) for layer in layers[:1]]
        layers = layers if is_listed_only else self._with_skeletons(layers)
        # No genuine manifest belongs to a made-up config.
        genuine, manifest_origin = None, REBUILT
        if origin != SYNTHESISED:
            genuine, manifest_origin = self._manifests.find(image, config, manifest)
        if genuine is not None and not is_readable(genuine.manifest):
            genuine, manifest_origin = None, CONVERTED
        return ResolvedImage(
            source_id=image.image_id,
            config=config,
            config_origin=origin,
            manifest=_rebuilt(manifest, blobs, config) if genuine is None else genuine.manifest,
            layers=tuple(layers),
            flat=flat,
            manifest_origin=manifest_origin,
            index=None if genuine is None else genuine.index,
            skeleton=self._skeleton(layers, flat, config, shown_by),
            givable=self._givable(layers),
            notices=(f"{image.name}: {lack}; its layers show it",) if lack else (),
        )

    def _manifest(self, published: Sequence[PublishedImage]) -> Manifest:
        """The manifest under any of the names. The publisher may just be changing one of the
        tags."""
        failure: PodmanCvmfsError | None = None
        for image in published:
            try:
                return self._repository.manifest(image)
            except RepositoryError as err:
                failure = failure or err
        assert failure is not None
        raise failure

    def _make_lists(
        self,
        image: PublishedImage,
        blobs: Sequence[Descriptor],
        config: ImageConfig,
        flat: FlatRoot | None,
    ) -> None:
        """Have file lists of all layers, as far as they can be had."""
        maker = self._maker
        if maker is None or not (maker.makes and self._policy.exact):
            return
        merged = None if flat is None else layout.flat_directory(image.image_id.hex)

        def make(layer: tuple[Descriptor, Digest]) -> None:
            blob, diff_id = layer
            if not maker.fetch(image.name, blob, diff_id, self._registries):
                maker.make(self._repository.tree, blob.digest, merged)

        for _ in self._readers.map(make, zip(blobs, config.diff_ids)):
            pass

    def _listed(
        self, blobs: Sequence[Descriptor], diff_ids: Sequence[Digest]
    ) -> list[FileList] | None:
        """The file lists of the layers ``blobs``; None if one has none, or the policy doesn't use
        them."""
        if not self._policy.exact:
            return None
        root = self._repository.root
        found = []
        for digest in self._readers.map(
            functools.partial(self._lists.find, root), [blob.digest for blob in blobs]
        ):
            if digest is None:
                return None
            found.append(FileList(digest, root))
        if self._policy.reuse is Reuse.NONE:
            return found
        pairs = list(zip(blobs, diff_ids))
        sizes = self._readers.map(lambda pair: self._lists.tar_size(pair[0].digest, pair[1]), pairs)
        return [each._replace(tar_size=size) for each, size in zip(found, sizes)]

    def _needed(
        self, blobs: Sequence[Descriptor], flat: FlatRoot | None, is_listed: bool
    ) -> Sequence[Descriptor]:
        """The layers, base first, of which more must be known than the manifest says: each costs
        two requests. A merged root shows the image without them; the client tells its size."""
        by_layers = flat is None or flat.size is None or self._policy.view is View.LAYERS
        by_layers = by_layers or is_listed
        if by_layers or len(blobs) == 1 or self._policy.reuse is Reuse.ALL:
            return blobs
        return blobs[:1] if self._policy.reuse is Reuse.BASE else []

    def _described(self, blobs: Sequence[Descriptor], count: int) -> list[PublishedLayer | None]:
        """What the repository says of the layers ``blobs``, None for each more up to ``count``."""
        found = list(self._readers.map(self._layer, [blob.digest for blob in blobs]))
        return [*found, *[None] * (count - len(found))]

    def _layer(self, digest: Digest) -> PublishedLayer | None:
        # Two threads may read the same layer at once; that costs less than a lock around reads.
        try:
            return self._layers[digest]
        except KeyError:
            found = self._repository.layer(digest)
        if len(self._layers) >= _LAYERS_KEPT:
            self._layers.clear()
        self._layers[digest] = found
        return found

    def _complete(
        self,
        image: PublishedImage,
        blobs: Sequence[Descriptor],
        found: Sequence[PublishedLayer | None],
        config: ImageConfig,
    ) -> list[Layer]:
        """The layers, after a check that manifest, config and layer descriptions agree."""
        if len(config.diff_ids) != len(blobs):
            raise RepositoryError(
                f"the manifest of {image.name} has {len(blobs)} layers, "
                f"its config {len(config.diff_ids)}"
            )
        layers = []
        chain = layer_ids(config.diff_ids)
        for layer_id, diff_id, blob, files in zip(chain, config.diff_ids, blobs, found):
            if files is not None and files.diff_id not in (None, diff_id):
                raise RepositoryError(
                    f"layer {blob.digest.hex[:12]} of {image.name} has the diff ID "
                    f"{files.diff_id} in layers.json, but {diff_id} in the image's config"
                )
            size = blob.size if files is None or files.diff_size is None else files.diff_size
            path = None if files is None else files.files
            layers.append(Layer(layer_id, diff_id, blob, path, size))
        return layers

    def _needs_markers(self, layers: Sequence[Layer], shown_by: View) -> bool:
        """Whether the markers of all layers must be known. Finding them means listing every
        directory."""
        if self._policy.reuse is Reuse.ALL:
            return True
        # The only layer hides nothing but its own markers.
        by_layers = shown_by is View.LAYERS and (self._policy.view is View.LAYERS or layers[1:])
        if self._policy.overlay is Overlay.FUSE:
            # fuse-overlayfs reads markers itself, but a skeleton must not bring back deleted files.
            files = layers[-1].files if layers else None
            return bool(by_layers) and files is not None and is_a_strangers(self._at(files))
        return bool(by_layers)

    def _with_markers(self, layer: Layer) -> Layer:
        if layer.files is None:
            return layer
        known = self._cache.markers(self._repository.root, layer.blob.digest)
        if known is not None:
            return replace(layer, markers=known)
        found = None
        if self._maker is not None:
            found = self._maker.markers(self._repository.tree, layer.blob.digest)
        markers = found or scan(self._at(layer.files))
        if not markers.unread:
            self._cache.keep_markers(self._repository.root, layer.blob.digest, markers)
        return replace(layer, markers=markers)

    def _with_skeletons(self, layers: list[Layer]) -> list[Layer]:
        """``layers``, with the skeletons of those that pulls may find."""
        count = {Reuse.NONE: 0, Reuse.BASE: 1, Reuse.ALL: len(layers)}[self._policy.reuse]
        found = list(layers)
        for number, layer in enumerate(layers[:count]):
            if layer.files is None:
                break
            key = (layer.layer_id, layer.files, layer.markers is None)
            if key not in self._skeletons:
                if len(self._skeletons) >= _LAYERS_KEPT:
                    self._skeletons.clear()
                below = self._above.of_layers(self._roots_of(layers[: number + 1]))
                alone = below if number == 0 else self._above.of_layers(self._roots_of([layer]))
                self._skeletons[key] = below, alone
            skeleton, own = self._skeletons[key]
            found[number] = replace(layer, skeleton=skeleton, own_skeleton=own)
        return found

    def _at(self, files: str) -> Tree:
        """The tree at the absolute path ``files`` in the repository."""
        return self._repository.tree.at(files[len(self._repository.root) + 1 :])

    def _roots_of(self, layers: Sequence[Layer]) -> list[ShownRoot]:
        """What shows ``layers``, base first: topmost first."""
        return [
            ShownRoot(self._at(layer.files), layer.markers or Markers())
            for layer in reversed(layers)
            if layer.files is not None
        ]

    def _givable(self, layers: Sequence[Layer]) -> frozenset[int] | None:
        roots = self._roots_of(layers)
        return self._above.givable(roots[0].tree if roots else self._repository.tree)

    def _skeleton(
        self, layers: Sequence[Layer], flat: FlatRoot | None, config: ImageConfig, shown_by: View
    ) -> Skeleton:
        if shown_by is View.EXACT:
            return Skeleton()
        if shown_by is View.FLAT and flat is not None:
            return self._above.of_merged(self._at(flat.path), flat.lost_sticky, config)
        return self._above.of_layers(self._roots_of(layers), config)


def _rebuilt(manifest: Manifest, blobs: Sequence[Descriptor], config: ImageConfig) -> bytes:
    """A manifest made from the repository's facts: the same image under another digest."""
    described = replace(manifest.config, digest=config.digest, size=len(config.raw))
    return render_manifest(Manifest(manifest.media_type, described, tuple(blobs)))
