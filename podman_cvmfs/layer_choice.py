# SPDX-License-Identifier: Apache-2.0
"""Choose how the next store shows each layer, where images would have it shown in several ways.
Pure: no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from podman_cvmfs.policy import Change
from podman_cvmfs.retirement import Retention, hidden, stays
from podman_cvmfs.store.records import (
    LayerDirectory,
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
    layers_of,
)
from podman_cvmfs.view import Shown


class LayerChoice:
    """The ``layers`` of the next store by their IDs, and the ``directories`` to be written for
    those that ``current`` doesn't have, or not so.

    ``sources`` are the source IDs of the images the store shall hold. No layer stays that shows
    files of a repository that is ``gone``. ``change`` is that of the policy since ``current``.
    """

    def __init__(
        self,
        current: StoreContent,
        sources: Collection[str],
        gone: Collection[str],
        change: Change,
    ) -> None:
        self.layers: dict[str, StoredLayer] = {}
        self.directories: dict[str, LayerDirectory] = {}
        self._current = current
        self._sources = sources
        self._gone = gone
        self._change = change
        self._carrying = carrying_layers(current)
        #: The layers that only images have that are laid out under another policy than the next
        #: store's.
        self._stale: set[str] = set()
        #: Layers, each with a repository from which the store has an image that has it.
        self._homes: set[tuple[str, str]] = set()

    def keep(self, images: Iterable[StoredImage]) -> None:
        """Begin with the layers of ``images`` as the store has them. Pulls find none that is
        stale."""
        changed = self._change is not Change.NONE
        for image in sorted(images, key=lambda each: each.outdated):
            chain = chain_of(self._current, image.top_layer)
            self._homes.update((layer.layer_id, image.repository) for layer in chain)
            if changed or image.outdated:
                for layer in chain:
                    if layer.layer_id not in self.layers:
                        kept = hidden(layer, self._change if changed else Change.OFFERED)
                        self.layers[layer.layer_id] = replace(kept, retired=None)
                        self._stale.add(layer.layer_id)
            else:
                for layer in layers_of(self._current, image):
                    self.layers[layer.layer_id] = replace(layer, retired=None)

    def take(self, shown: Sequence[Shown]) -> None:
        """Take the layers of an image that has been laid out, where they are better than those
        there are."""
        self._homes.update((layer.layer_id, layer.repository) for layer, _ in shown)
        for layer, directory in shown:
            layer_id = layer.layer_id
            if self._change is Change.NONE and layer.alone and layer_id not in self.layers:
                self.layers.update(self._standing(layer_id))
            if self._is_better(layer):
                self.layers[layer_id] = layer
                self.directories[layer_id] = directory
                self._stale.discard(layer_id)

    def take_twins(self, twins: Iterable[Shown]) -> None:
        """Take the twins of top layers; they are needless where another image's layer has been
        taken for the top one."""
        wanted = {layer.twin for layer in self.layers.values()}
        for layer, directory in twins:
            if layer.layer_id in wanted and layer.layer_id not in self.layers:
                self.layers[layer.layer_id] = layer
                self.directories[layer.layer_id] = directory

    def limit_to(self, images: Iterable[StoredImage]) -> None:
        """Leave out what is in no chain of ``images``: what stands in for layers below one that is
        shown by its own files."""
        reached = StoreContent(layers=self.layers)
        used = {layer.layer_id for image in images for layer in layers_of(reached, image)}
        self.layers = {key: layer for key, layer in self.layers.items() if key in used}
        self.directories = {key: each for key, each in self.directories.items() if key in used}

    def leave_below(self, retention: Retention) -> bool:
        """Let merged roots stand on the same layers as in ``current`` where something that has left
        and stays as ``retention`` says stands on them; returns whether any does.

        A merged root is mounted alone, whatever it stands on. But what stands on it was laid out
        when it was shown by its own files: it mounts all layers below, and keeps them by its chain.
        """
        found = False
        for layer in self._current.layers.values():
            if layer.layer_id in self.layers or layer.alone:
                continue
            if stays(self._current, layer, retention):
                found |= self._leave_below(chain_of(self._current, layer.layer_id)[1:])
        return found

    def _leave_below(self, chain: Sequence[StoredLayer]) -> bool:
        changed: dict[str, StoredLayer] = {}
        home: str | None = None
        for layer in chain:
            present = self.layers.get(layer.layer_id)
            if present is None and home is not None:
                # What would have to be laid out anew for another reason is nothing to stand on.
                if not serves(layer, self._sources, self._gone):
                    return False
                if layer.repository not in ("", home):
                    return False
                changed[layer.layer_id] = replace(hidden(layer, self._change), retired=None)
            elif present is not None:
                home = present.repository
                if present.alone and present.parent != layer.parent:
                    # What isn't shown by itself counts with the top.
                    size = self._size_below(self.layers, present) + present.diff_size
                    size = max(0, size - self._size_below(self._current.layers, layer))
                    changed[layer.layer_id] = replace(present, parent=layer.parent, diff_size=size)
        self.layers.update(changed)
        return bool(changed)

    @staticmethod
    def _size_below(layers: Mapping[str, StoredLayer], layer: StoredLayer) -> int:
        return sum(each.diff_size for each in chain_of(StoreContent(layers=layers), layer.parent))

    def _is_better(self, layer: StoredLayer) -> bool:
        present = self.layers.get(layer.layer_id)
        if present is None or present.outdated or not serves(present, self._sources, self._gone):
            return True
        if layer.layer_id in self._stale and layer.alone == present.alone:
            return True
        if present.repository and (present.layer_id, present.repository) not in self._homes:
            return True
        return _beats(layer, present)

    def _standing(self, layer_id: str) -> dict[str, StoredLayer]:
        """The layer and all below it as the store has them, if something stands on it there and
        they are shown by their own files.

        It is retired, or it would be there already; but what stands on it needs what lies below it,
        of which a merged root in its place would know nothing.
        """
        chain = chain_of(self._current, layer_id) if layer_id in self._carrying else []
        for layer in chain:
            if layer.alone or layer.outdated or not serves(layer, self._sources, self._gone):
                return {}
        return {layer.layer_id: replace(layer, retired=None) for layer in chain}


def carrying_layers(content: StoreContent) -> set[str]:
    """The IDs of the layers that others stand on and mount."""
    return {
        layer.parent
        for layer in content.layers.values()
        if layer.parent is not None and not layer.alone
    }


def serves(layer: StoredLayer, sources: Collection[str], gone: Collection[str]) -> bool:
    """Whether a layer can stay as it is: the image it is laid out for is among the wanted
    ``sources``, and the repository that it shows files of isn't ``gone``."""
    return (layer.shows is None or layer.shows in sources) and layer.repository not in gone


def orphaned_views(
    current: StoreContent,
    sources: Collection[str],
    gone: Collection[str] = (),
    left: Collection[str] = (),
) -> set[str]:
    """The source IDs, among the wanted ``sources``, of stored images that have a layer laid out for
    an image that is wanted no more, or of a repository that is ``gone`` or of which no wanted image
    has it any more, or a merged root below their top; or whose top has lost its twin, which goes
    after its grace though a container still needs the top. They must be resolved anew. What is
    ``left`` (source IDs) has been withdrawn by the repository that it is from."""
    found: set[str] = set()
    chosen = frozenset(sources)
    held = [image for image in current.images.values() if image.all_sources & chosen]
    # Two repositories may have a layer; the one that has lost it doesn't keep its files.
    homes = {
        (layer.layer_id, image.repository)
        for image in held
        if image.all_sources.isdisjoint(left)
        for layer in layers_of(current, image)
    }
    for image in held:
        if image.top_layer is not None:
            layers = layers_of(current, image)
            buried = any(layer.alone for layer in chain_of(current, image.top_layer)[1:])
            sound = all(
                serves(each, chosen, gone)
                and (not each.repository or (each.layer_id, each.repository) in homes)
                for each in layers
            )
            twins = {layer.twin for layer in layers[:1]} - {None}
            if not layers or buried or not sound or not twins <= current.layers.keys():
                found |= image.all_sources & chosen
    return found


def _beats(layer: StoredLayer, other: StoredLayer) -> bool:
    """Which of two ways to show one layer the store takes.

    A merged root holds all that lies below the layer. Mounted as the lower of another layer, above
    those below it once more, it would let them show what it deletes: so exact layers beat it. Below
    a base there is nothing; there the merged root may be the one with a skeleton, which beats a
    layer without. A base of which somebody has found that it deletes beats one that nobody has
    looked at.
    """
    if layer.merged != other.merged:
        return layer.merged == (layer.parent is None)
    if (layer.shows is None) != (other.shows is None):
        return layer.shows is not None
    return layer.diff_id is None and other.diff_id is not None
