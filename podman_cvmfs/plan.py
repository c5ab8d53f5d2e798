# SPDX-License-Identifier: Apache-2.0
"""Compare what a store holds with what it shall hold. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from podman_cvmfs.oci import Digest
from podman_cvmfs.reference import ImageName, assign_names
from podman_cvmfs.resolve import ResolvedImage
from podman_cvmfs.retirement import (
    GRACE,
    add_retired_images,
    add_retired_layers,
    hidden,
    is_retired,
    keep_spacer,
    retired_entries,
)
from podman_cvmfs.store.records import (
    ImageFiles,
    LayerDirectory,
    Link,
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
    layers_of,
)
from podman_cvmfs.view import SPACER, SPACER_DIRECTORY, ImageView, Shown


@dataclass(frozen=True)
class Candidate:
    """A complete image as the store would hold it: its record, its files, its layers base first,
    the twin of the top one.

    ``stored`` has no names yet. What else was found out about the image has gone: there may be
    10,000 of these.
    """

    stored: StoredImage
    files: ImageFiles
    layers: tuple[Shown, ...]
    twin: Shown | None = None


def candidate_of(image: ResolvedImage, view: ImageView, repository: str) -> Candidate:
    """The candidate for ``image``, to be shown by ``view``, from the directory ``repository``."""
    layers = tuple(_from(shown, repository) for shown in view.layers)
    twin = None if view.twin is None else _from(view.twin, repository)
    files = ImageFiles(image.config.digest.hex, image.manifest, image.config.raw, image.index)
    stored = StoredImage(
        image_id=files.image_id,
        entry=files.entry,
        repository=repository,
        source_id=image.source_id.hex,
        published=(),
        top_layer=view.layers[-1][0].layer_id if view.layers else None,
        created=image.config.created,
        manifest_digest=str(files.manifest_digest),
        manifest_size=len(files.manifest),
        config_size=len(files.config),
        view=view.kind.value,
        config_origin=image.config_origin,
        manifest_origin=image.manifest_origin,
        platform=str(image.config.platform),
        index_digest=None if files.index is None else str(Digest.of(files.index)),
        index_size=len(files.index or b""),
    )
    return Candidate(stored, files, layers, twin)


def _from(shown: Shown, repository: str) -> Shown:
    """A layer, with the repository that it shows files of, if it does."""
    stored, directory = shown
    if not any(isinstance(part, Link) for part in directory.parts):
        return shown
    return replace(stored, repository=repository), directory


@dataclass(frozen=True)
class Plan:
    """The content the store shall have, what must be written for it, and what it changes.

    ``added``, ``removed`` and ``moved`` are podman names; a moved name leads to another image
    than before.
    """

    content: StoreContent
    layers: tuple[LayerDirectory, ...]
    images: tuple[ImageFiles, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[str, ...]


def make_plan(
    current: StoreContent,
    wanted: Mapping[ImageName, str],
    candidates: Mapping[str, Candidate],
    policy: str,
    now: int,
    grace: int = GRACE,
    needed: Collection[str] = (),
    useless: Collection[str] = (),
    gone: Collection[str] = (),
) -> Plan:
    """Plan the store that offers ``wanted`` (name in the repository -> source ID).

    ``candidates`` (by source ID) are complete images, laid out under ``policy``; a wanted image
    that is not among them stays as ``current`` has it. A layer of both becomes the candidate's if
    it is laid out under another policy or shows files of a repository that is ``gone``. ``now`` is
    in seconds since 1970. What leaves the store stays usable for ``grace`` seconds (of an image,
    only its names go at once), the layers ``needed`` stay longer, and those ``useless`` go at once.
    """
    sources = set(wanted.values())
    changed = current.policy != policy
    kept = {
        source: image
        # A retired image may have the source of a listed one, which then counts.
        for image in sorted(current.images.values(), key=is_retired, reverse=True)
        for source in image.all_sources
        if source in sources and source not in candidates
    }
    names_of: dict[str, list[ImageName]] = {}
    for name, source in wanted.items():
        names_of.setdefault(source, []).append(name)
    image_of = {source: image.image_id for source, image in kept.items()}
    image_of.update({source: each.stored.image_id for source, each in candidates.items()})
    # Repositories may know one image by several sources: the first makes it, the others are names.
    maker: dict[str, str] = {}
    for source in (*kept, *names_of):
        if source in image_of:
            maker.setdefault(image_of[source], source)
    relaid = _is_relaid(current.policy, policy)
    layers, stale = _kept_layers(current, kept.values(), changed, relaid)
    directories: dict[str, LayerDirectory] = {}
    for source in sorted(candidates):
        if source in sources and maker[image_of[source]] == source:
            for layer, directory in candidates[source].layers:
                if not changed and layer.alone and layer.layer_id not in layers:
                    layers.update(_standing(current, layer.layer_id, sources, gone))
                present = layers.get(layer.layer_id)
                if (
                    present is None
                    or present.outdated
                    or (layer.layer_id in stale and layer.alone == present.alone)
                    or not _serves(present, sources, gone)
                    or _beats(layer, present)
                ):
                    layers[layer.layer_id] = layer
                    directories[layer.layer_id] = directory
                    stale.discard(layer.layer_id)
    twins = {layer.twin for layer in layers.values()}
    for layer, directory in (each.twin for each in candidates.values() if each.twin is not None):
        # Needless where another image's layer has been taken for the top one.
        if layer.layer_id in twins and layer.layer_id not in layers:
            layers[layer.layer_id] = layer
            directories[layer.layer_id] = directory

    images: dict[str, StoredImage] = {}
    files = []
    published: dict[str, list[tuple[str, str]]] = {}
    for source, source_names in names_of.items():
        if source in image_of:
            paths = published.setdefault(image_of[source], [])
            paths.extend((name.repository_path, source) for name in source_names)
    for image_id, paths in published.items():
        source = maker[image_id]
        if source in candidates:
            files.append(candidates[source].files)
            stored = candidates[source].stored
        else:
            stored = replace(kept[source], outdated=changed or kept[source].outdated)
        images[image_id] = _with_names(stored, paths)
    reached = StoreContent(images=images, layers=layers)
    used = {layer.layer_id for image in images.values() for layer in layers_of(reached, image)}
    # What stands in for layers below one that is shown by its own files is in no chain.
    layers = {layer_id: layer for layer_id, layer in layers.items() if layer_id in used}
    directories = {layer_id: each for layer_id, each in directories.items() if layer_id in used}
    names = assign_names(
        (name, image_of[source]) for name, source in wanted.items() if source in image_of
    )
    add_retired_layers(current, layers, now, grace, needed, useless, changed, relaid)
    keep_spacer(layers)
    if layers and SPACER.layer_id not in current.layers:
        directories[SPACER.layer_id] = SPACER_DIRECTORY
    held = {
        name: image_id
        for name, image_id in current.names.items()
        if not is_retired(current.images[image_id])
    }
    all_names = dict(names)
    add_retired_images(current, images, all_names, layers, now, grace, needed, changed)
    content = StoreContent(
        policy=policy,
        images=images,
        layers=layers,
        names=all_names,
        retired_entries=retired_entries(current, images, layers, now, grace, needed),
    )
    return Plan(
        content=content,
        layers=tuple(directories.values()),
        images=tuple(files),
        added=tuple(sorted(names.keys() - held.keys())),
        removed=tuple(sorted(held.keys() - names.keys())),
        moved=tuple(sorted(n for n in names if n in held and held[n] != names[n])),
    )


def _with_names(image: StoredImage, published: Iterable[tuple[str, str]]) -> StoredImage:
    """``image`` under these names, each with its source."""
    pairs = sorted(published)
    sources = tuple(source for _, source in pairs)
    source_id = image.source_id if image.source_id in sources else sources[0]
    return replace(
        image,
        source_id=source_id,
        published=tuple(path for path, _ in pairs),
        sources=sources if any(source != source_id for source in sources) else (),
    )


def _is_relaid(old: str, new: str) -> bool:
    """Whether layers that were laid out under the policy ``old`` are laid out otherwise under
    ``new``: not only others are shown, or offered to pulls."""
    return (old.split()[:1], old.split()[-1:]) != (new.split()[:1], new.split()[-1:])


def _kept_layers(
    current: StoreContent, images: Collection[StoredImage], changed: bool, relaid: bool
) -> tuple[dict[str, StoredLayer], set[str]]:
    """The layers of ``images`` as ``current`` has them, and the IDs of those that only images have
    that are laid out under another policy than the next store's: all if that has ``changed``. No
    pull finds these."""
    layers: dict[str, StoredLayer] = {}
    stale: set[str] = set()
    for image in sorted(images, key=lambda each: each.outdated):
        if changed or image.outdated:
            for layer in chain_of(current, image.top_layer):
                if layer.layer_id not in layers:
                    layers[layer.layer_id] = hidden(replace(layer, retired=None), relaid)
                    stale.add(layer.layer_id)
        else:
            for layer in layers_of(current, image):
                layers[layer.layer_id] = replace(layer, retired=None)
    return layers, stale


def _standing(
    current: StoreContent, layer_id: str, sources: Collection[str], gone: Collection[str]
) -> dict[str, StoredLayer]:
    """The layer and all below it as ``current`` has them, if they are shown by their own files.

    It is retired, or it would be there already; but what stands on it needs what lies below it, of
    which a merged root in its place would know nothing.
    """
    chain = chain_of(current, layer_id)
    for layer in chain:
        if layer.alone or layer.outdated or not _serves(layer, sources, gone):
            return {}
    return {layer.layer_id: replace(layer, retired=None) for layer in chain}


def _serves(layer: StoredLayer, sources: Collection[str], gone: Collection[str]) -> bool:
    """Whether a layer can stay as it is: the image it is laid out for is still wanted, and the
    repository that it shows files of isn't ``gone``."""
    return (layer.shows is None or layer.shows in sources) and layer.repository not in gone


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


def orphaned_views(
    current: StoreContent, sources: Collection[str], gone: Collection[str] = ()
) -> set[str]:
    """The source IDs, among the wanted ``sources``, of stored images that have a layer laid out for
    an image that is wanted no more, or of a repository that is ``gone``, or a merged root below
    their top. They must be resolved anew."""
    found: set[str] = set()
    chosen = frozenset(sources)
    for image in current.images.values():
        wanted = image.all_sources & chosen
        if wanted and image.top_layer is not None:
            layers = layers_of(current, image)
            buried = any(layer.alone for layer in chain_of(current, image.top_layer)[1:])
            if not layers or buried or not all(_serves(each, chosen, gone) for each in layers):
                found |= wanted
    return found
