# SPDX-License-Identifier: Apache-2.0
"""Compare what a store holds with what it shall hold. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from podman_cvmfs.oci import Digest
from podman_cvmfs.reference import ImageName, assign_names
from podman_cvmfs.resolve import ResolvedImage
from podman_cvmfs.store.records import (
    UNCOMPRESSED,
    ImageFiles,
    LayerDirectory,
    Link,
    StoreContent,
    StoredImage,
    StoredLayer,
)
from podman_cvmfs.view import SPACER, SPACER_DIRECTORY, ImageView, Shown

#: How long layers and files stay that containers may still use, in seconds, unless told otherwise.
GRACE = 14 * 24 * 3600
#: No clock that is set tells an earlier time than that of this line, in seconds since 1970.
_EARLIEST = 1_735_689_600


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
    layers, outdated = _kept_layers(current, kept.values(), changed)
    directories: dict[str, LayerDirectory] = {}
    for source in sorted(candidates):
        if source in sources and maker[image_of[source]] == source:
            for layer, directory in candidates[source].layers:
                present = layers.get(layer.layer_id)
                if (
                    present is None
                    or layer.layer_id in outdated
                    or not _serves(present, sources, gone)
                    or _beats(layer, present)
                ):
                    layers[layer.layer_id] = layer
                    directories[layer.layer_id] = directory
                    outdated.discard(layer.layer_id)
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
    names = assign_names(
        (name, image_of[source]) for name, source in wanted.items() if source in image_of
    )
    add_retired_layers(current, layers, now, grace, needed, useless, changed)
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


def _kept_layers(
    current: StoreContent, images: Collection[StoredImage], changed: bool
) -> tuple[dict[str, StoredLayer], set[str]]:
    """The layers of ``images`` as ``current`` has them, and the IDs of those that are laid out
    under another policy than the next store's: all if that has ``changed``. No pull finds these."""
    layers: dict[str, StoredLayer] = {}
    outdated: set[str] = set()
    for image in sorted(images, key=lambda each: each.outdated):
        if changed or image.outdated:
            for layer in chain_of(current, image.top_layer):
                if layer.layer_id not in layers:
                    layers[layer.layer_id] = _hidden(replace(layer, retired=None))
                    outdated.add(layer.layer_id)
        else:
            for layer in layers_of(current, image):
                layers[layer.layer_id] = replace(layer, retired=None)
    return layers, outdated


def _hidden(layer: StoredLayer) -> StoredLayer:
    """``layer`` such that no pull finds it by its digests."""
    return replace(layer, diff_id=None, blob=None, blob_size=0, compression=UNCOMPRESSED, twin=None)


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
    an image that is wanted no more, or of a repository that is ``gone``. They must be resolved
    anew."""
    found: set[str] = set()
    chosen = frozenset(sources)
    for image in current.images.values():
        wanted = image.all_sources & chosen
        if wanted and image.top_layer is not None:
            layers = layers_of(current, image)
            if not layers or not all(_serves(layer, chosen, gone) for layer in layers):
                found |= wanted
    return found


def chain_of(content: StoreContent, top: str | None) -> list[StoredLayer]:
    """The stored layers from ``top`` down to the base."""
    chain = []
    while top is not None and top in content.layers:
        layer = content.layers[top]
        chain.append(layer)
        top = layer.parent
    return chain


def layers_of(content: StoreContent, image: StoredImage) -> list[StoredLayer]:
    """All layers that the store has for ``image``: its chain, and the twins of layers in it."""
    chain = chain_of(content, image.top_layer)
    twins = (content.layers.get(layer.twin) for layer in chain if layer.twin is not None)
    return [*chain, *(twin for twin in twins if twin is not None)]


def retired_since(since: int | None, now: int) -> int:
    """The time from which grace counts for what was retired at ``since``, None for just now.

    A time that can't be right was told by a clock that wasn't: were it taken for true, things would
    stay for ever, or go at once. So their grace begins now.
    """
    if since is None or since > now or since < _EARLIEST <= now:
        return now
    return since


def add_retired_layers(
    current: StoreContent,
    layers: dict[str, StoredLayer],
    now: int,
    grace: int = GRACE,
    needed: Collection[str] = (),
    useless: Collection[str] = (),
    changed: bool = False,
) -> None:
    """Add to ``layers`` those that images have left within the grace period, with their parents:
    a container or a pulled image may stand on them. Those ``needed`` stay after it, too; those
    ``useless``, and what stands on them, have no grace. If the policy has ``changed``, no pull
    finds them any more."""
    for layer in current.layers.values():
        if layer.layer_id in layers:
            continue
        chain = chain_of(current, layer.layer_id)
        within = now - retired_since(layer.retired, now) < grace
        usable = within and all(link.layer_id not in useless for link in chain)
        if usable or layer.layer_id in needed:
            for link in chain:
                if link.layer_id not in layers:
                    since = retired_since(link.retired, now)
                    kept = _hidden(link) if changed else link
                    layers[link.layer_id] = replace(kept, retired=since)


def keep_spacer(layers: dict[str, StoredLayer]) -> None:
    """Have the spacer among ``layers`` just as long as there are others."""
    layers.pop(SPACER.layer_id, None)
    if layers:
        layers[SPACER.layer_id] = SPACER


def is_retired(image: StoredImage) -> bool:
    """Whether ``image`` has lost its names, and stays only for containers made of it."""
    return not image.published


def retired_name(image_id: str) -> str:
    """The name of a retired image. Without any, podman would take it for a left-over and try to
    remove it with the last image made of it; ``.invalid`` is nobody's (RFC 2606)."""
    return f"retired.podman-cvmfs.invalid/image:{image_id[:12]}"


def add_retired_images(
    current: StoreContent,
    images: dict[str, StoredImage],
    names: dict[str, str],
    layers: Mapping[str, StoredLayer],
    now: int,
    grace: int = GRACE,
    needed: Collection[str] = (),
    changed: bool = False,
) -> None:
    """Add to ``images`` those that have left within the grace period, and after it those whose top
    layer is ``needed``; but none whose layers are not among ``layers``. In ``names`` each gets its
    retired name. If the policy has ``changed``, they are outdated.

    podman can't inspect or commit a container whose image isn't known, ``podman system df`` fails
    for all, and an image that a user has tagged reads its documents from ours.
    """
    for image in current.images.values():
        since = retired_since(current.retired_entries.get(image.entry), now)
        keeps = now - since < grace or image.top_layer in needed
        complete = image.top_layer is None or image.top_layer in layers
        if keeps and complete and image.image_id not in images:
            images[image.image_id] = replace(
                image, published=(), sources=(), outdated=changed or image.outdated
            )
            names[retired_name(image.image_id)] = image.image_id


def retired_entries(
    current: StoreContent,
    images: Mapping[str, StoredImage],
    layers: Mapping[str, StoredLayer],
    now: int,
    grace: int = GRACE,
    needed: Collection[str] = (),
) -> dict[str, int]:
    """The pool entries that the store no longer leads to, within the grace period, with the time
    since which it counts; after it, those of the layers ``needed``, which may be mounted still.

    Those of retired images are among them, to remember since when they are retired.
    """
    listed = {key: image for key, image in images.items() if not is_retired(image)}
    used = StoreContent(images=listed, layers=layers).entries()
    retired = {image.entry for image in images.values() if is_retired(image)}
    left: dict[str, int | None] = {image.entry: None for image in current.images.values()}
    left.update((layer.entry, layer.retired) for layer in current.layers.values())
    left.update(current.retired_entries)
    counted = {
        entry: retired_since(since, now) for entry, since in left.items() if entry not in used
    }
    return {
        entry: since
        for entry, since in counted.items()
        if now - since < grace or entry in retired or entry.partition("-")[0] in needed
    }
