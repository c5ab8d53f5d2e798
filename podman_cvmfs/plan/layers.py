# SPDX-License-Identifier: Apache-2.0
"""Choose between several forms of the same layer for the next store. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from podman_cvmfs.plan.retirement import Retention, hidden
from podman_cvmfs.plan.shown_layer import Shown
from podman_cvmfs.settings.policy import Change, Policy, Reuse
from podman_cvmfs.store.records import (
    UNCOMPRESSED,
    LayerDirectory,
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
    layers_of,
)


class LayerChoice:
    """The ``layers`` of the next store by their IDs, and the ``directories`` to write for new or
    changed ones.

    ``sources`` are the source IDs of the images that the store is to have. Layers with files of a
    repository in ``gone`` don't stay. ``change`` is the change of policy since ``current``.
    ``retention`` decides which layers of layout 4 stay. ``order`` are the repositories in order of
    preference: if two have a layer, the earlier one shows it.
    """

    def __init__(
        self,
        current: StoreContent,
        sources: Collection[str],
        gone: Collection[str],
        change: Change,
        retention: Retention,
        order: Sequence[str] = (),
    ) -> None:
        self.layers: dict[str, StoredLayer] = {}
        self.directories: dict[str, LayerDirectory] = {}
        self._current = current
        self._sources = sources
        self._gone = gone
        self._change = change
        self._retention = retention
        self._order = order
        #: The layers of images that are all laid out under another policy than the next store's.
        self._stale: set[str] = set()
        #: Pairs of a layer and a repository from which the store has an image with this layer.
        self._homes: set[tuple[str, str]] = set()

    def keep(self, images: Iterable[StoredImage]) -> None:
        """Begin with the store's layers of ``images``. Pulls can't find stale ones."""
        changed = self._change is not Change.NONE
        for image in sorted(images, key=lambda each: each.outdated):
            layers = layers_of(self._current, image)
            self._homes.update((layer.layer_id, image.repository) for layer in layers)
            if changed or image.outdated:
                for layer in chain_of(self._current, image.top_layer):
                    if layer.layer_id not in self.layers:
                        kept = hidden(layer, self._change if changed else Change.OFFERED)
                        self.layers[layer.layer_id] = replace(kept, retired=None)
                        self._stale.add(layer.layer_id)
            else:
                for layer in layers:
                    # A layer of layout 4 stays for its users only, and not for ever.
                    since = layer.retired if layer.lowers is None else None
                    kept = layer if layer.retired == since else replace(layer, retired=since)
                    self.layers[layer.layer_id] = kept

    def take(self, shown: Sequence[Shown]) -> None:
        """Take the layers of a laid-out image that are better than the present ones."""
        self._homes.update((layer.layer_id, layer.repository) for layer, _ in shown)
        for layer, directory in shown:
            layer_id = layer.layer_id
            former = self._current.layers.get(layer_id)
            if former is not None and is_held(former, self._retention):
                self.layers.setdefault(layer_id, self._held(former, layer))
            elif self._is_better(layer):
                self.layers[layer_id] = layer
                self.directories[layer_id] = directory
                self._stale.discard(layer_id)

    def _held(self, former: StoredLayer, layer: StoredLayer) -> StoredLayer:
        """``former`` instead of ``layer``, with the same digests for pulls."""
        is_found = former.diff_id is not None and layer.diff_id is not None
        return replace(
            former,
            retired=self._retention.since(former.retired),
            outdated=False,
            twin=layer.twin,
            diff_id=layer.diff_id if is_found else None,
            blob=layer.blob if is_found else None,
            blob_size=layer.blob_size if is_found else 0,
            compression=layer.compression if is_found else UNCOMPRESSED,
        )

    def limit_to(self, images: Iterable[StoredImage]) -> None:
        """Remove layers that no image of ``images`` has, because another repository's layer has
        replaced them."""
        reached = StoreContent(layers=self.layers)
        used = {layer.layer_id for image in images for layer in layers_of(reached, image)}
        self.layers = {key: layer for key, layer in self.layers.items() if key in used}
        self.directories = {key: each for key, each in self.directories.items() if key in used}

    def _is_better(self, layer: StoredLayer) -> bool:
        present = self.layers.get(layer.layer_id)
        if present is None or present.outdated or not serves(present, self._sources, self._gone):
            return True
        if layer.layer_id in self._stale:
            return True
        if present.repository and (present.layer_id, present.repository) not in self._homes:
            return True
        before = precedence(present.repository, self._order)
        if precedence(layer.repository, self._order) != before:
            return precedence(layer.repository, self._order) < before
        if (layer.tar_split is None) != (present.tar_split is None):
            return layer.tar_split is not None
        # A base with known deletions is better than a base that has not been examined.
        return layer.diff_id is None and present.diff_id is not None


def precedence(repository: str, order: Sequence[str]) -> int:
    """The position of ``repository`` in the ``order`` of preference, 0 for the first. Others come
    last."""
    return order.index(repository) if repository in order else len(order)


def is_held(layer: StoredLayer, retention: Retention) -> bool:
    """Whether a layer of layout 4 must stay unchanged: its users name the directories that it
    mounted, and with podman 6 the layer's ID."""
    if layer.lowers is not None:
        return False
    return layer.layer_id in retention.needed or retention.has_grace(layer.retired)


def serves(layer: StoredLayer, sources: Collection[str], gone: Collection[str]) -> bool:
    """Whether a layer can stay as it is: its image is among the wanted ``sources``, and the
    repository of its files isn't ``gone``."""
    return (layer.shows is None or layer.shows in sources) and layer.repository not in gone


def distrusted_layers(
    current: StoreContent, policy: Policy, policy_of: Callable[[str], Policy]
) -> set[str]:
    """The ``refused_layers`` of repositories that aren't trusted, although ``policy``, that for all
    images, lets pulls use layers."""
    return set() if policy.reuse is Reuse.NONE else refused_layers(current, policy_of)


def refused_layers(current: StoreContent, policy_of: Callable[[str], Policy]) -> set[str]:
    """The IDs of layers that a pull can find by their place in a chain, although no other image may
    use their repository's layers. ``policy_of`` returns the policy for images of a repository."""
    return {
        layer.layer_id
        for layer in current.layers.values()
        if layer.shows is None and layer.repository
        if policy_of(layer.repository).reuse is Reuse.NONE
    }


def freed_images(current: StoreContent, sources: Collection[str], retention: Retention) -> set[str]:
    """The source IDs, among the wanted ``sources``, of images whose layers of layout 4 have no
    users any more: they can be laid out anew completely."""
    freed = {
        layer.layer_id
        for layer in current.layers.values()
        if layer.lowers is None and layer.retired is not None and not is_held(layer, retention)
    }
    chosen = frozenset(sources)
    return {
        source
        for image in (current.images.values() if freed else ())
        for source in image.all_sources & chosen
        if any(layer.layer_id in freed for layer in layers_of(current, image))
    }


def orphaned_views(
    current: StoreContent,
    sources: Collection[str],
    gone: Collection[str] = (),
    left: Collection[str] = (),
) -> set[str]:
    """The source IDs, among the wanted ``sources``, of stored images that must be resolved again
    because of one layer. The layer was laid out for an image that is no longer wanted. Or its
    repository is ``gone``, or no wanted image has the layer from that repository. Or its twin has
    left after the grace, although a container still needs the layer. ``left`` are source IDs that
    their repository has withdrawn."""
    found: set[str] = set()
    chosen = frozenset(sources)
    held = [
        (image, layers_of(current, image))
        for image in current.images.values()
        if image.all_sources & chosen
    ]
    # Two repositories may have a layer. The one that has withdrawn it doesn't keep its files.
    homes = {
        (layer.layer_id, image.repository)
        for image, layers in held
        if image.all_sources.isdisjoint(left)
        for layer in layers
    }
    for image, layers in held:
        if image.top_layer is not None:
            sound = all(
                serves(each, chosen, gone)
                and (not each.repository or (each.layer_id, each.repository) in homes)
                for each in layers
            )
            twins = {layer.twin for layer in layers} - {None}
            if not layers or not sound or not twins <= current.layers.keys():
                found |= image.all_sources & chosen
    return found
