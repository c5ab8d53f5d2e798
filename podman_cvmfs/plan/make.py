# SPDX-License-Identifier: Apache-2.0
"""Compare the present store with the wanted one. Pure: no I/O."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from podman_cvmfs.names.reference import ImageName, assign_names
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.plan.lay_out import ImageView
from podman_cvmfs.plan.layers import LayerChoice, precedence
from podman_cvmfs.plan.retirement import (
    Retention,
    add_retired_images,
    add_retired_layers,
    is_retired,
    keep_spacer,
    retired_entries,
)
from podman_cvmfs.plan.shown_layer import Shown
from podman_cvmfs.resolve.image import ResolvedImage
from podman_cvmfs.settings.policy import Change
from podman_cvmfs.store.records import (
    ImageFiles,
    LayerDirectory,
    Piece,
    StoreContent,
    StoredImage,
)


@dataclass(frozen=True)
class StorableImage:
    """A complete image, ready to be stored. It holds no other facts about the image, because there
    may be 10,000 of these."""

    #: Its record, without names.
    stored: StoredImage
    files: ImageFiles
    #: The layers that show it, base first.
    layers: tuple[Shown, ...]
    #: Layers for pulls only.
    beside: tuple[Shown, ...] = ()
    #: The pieces that all these layers mount.
    pieces: tuple[Piece, ...] = ()


def storable_image(image: ResolvedImage, view: ImageView, repository: str) -> StorableImage:
    """``image`` ready to be stored, to be shown by ``view``, from the directory ``repository``."""
    layers = tuple(_from(shown, repository) for shown in view.layers)
    beside = tuple(_from(shown, repository) for shown in view.beside)
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
    return StorableImage(stored, files, layers, beside, view.pieces)


def _from(shown: Shown, repository: str) -> Shown:
    """A layer, with the repository of its files if it shows any."""
    stored, directory = shown
    if not directory.lowers:
        return shown
    # Thousands of images may share a base. The layer that shows an image is the image's own.
    return _shared(shown, repository) if stored.shows is None else _placed(shown, repository)


def _placed(shown: Shown, repository: str) -> Shown:
    stored, directory = shown
    return replace(stored, repository=repository), directory


@functools.lru_cache(maxsize=4096)
def _shared(shown: Shown, repository: str) -> Shown:
    return _placed(shown, repository)


@dataclass(frozen=True)
class Plan:
    """The content that the store is to have, the new entries for it, and the changes of names."""

    content: StoreContent
    #: New entries of the pool: layers, documents of images, pieces.
    layers: tuple[LayerDirectory, ...]
    images: tuple[ImageFiles, ...]
    pieces: tuple[Piece, ...]
    #: podman's names that are new in the store.
    added: tuple[str, ...]
    #: podman's names that leave the store.
    removed: tuple[str, ...]
    #: podman's names that lead to another image than before.
    moved: tuple[str, ...]


def make_plan(
    current: StoreContent,
    wanted: Mapping[ImageName, str],
    storable: Mapping[str, StorableImage],
    policy: str,
    retention: Retention,
    gone: Collection[str] = (),
    order: Sequence[str] = (),
) -> Plan:
    """Plan the store that offers ``wanted`` (name in the repository -> source ID).

    ``storable`` (by source ID) are complete images, laid out under ``policy``; other wanted
    images stay as in ``current``. If both have a layer, that of the storable image is used if the
    present one has another policy, or files of a repository that is ``gone``. An image that leaves
    the store loses its names at once; ``retention`` decides how long the rest stays. ``order`` are
    the repositories in order of preference: if two have an image or a layer, the earlier one shows
    it.
    """
    change = Change.between(current.policy, policy)
    sources = frozenset(wanted.values())
    kept = _kept(current, sources - storable.keys())
    image_of = {source: image.image_id for source, image in kept.items()}
    image_of.update((source, each.stored.image_id) for source, each in storable.items())
    # Repositories may have one image under several source IDs. The first one makes it, the others
    # only add names.
    present = {image.image_id: image for image in kept.values()}
    made: dict[str, StorableImage] = {}
    by_preference = sorted(
        (source for source in wanted.values() if source in storable),
        key=lambda source: precedence(storable[source].stored.repository, order),
    )
    for source in by_preference:
        image_id, repository = image_of[source], storable[source].stored.repository
        former = present.get(image_id)
        if former is None:
            made.setdefault(image_id, storable[source])
        elif precedence(repository, order) < precedence(former.repository, order):
            made[image_id] = storable[source]
            del present[image_id]

    choice = LayerChoice(current, sources, gone, change, retention, order)
    choice.keep(present.values())
    in_order = sorted(made.values(), key=lambda each: each.stored.source_id)
    for each in in_order:
        choice.take(each.layers)
        choice.take(each.beside)
    images = _listed(wanted, image_of, present, made, change)
    choice.limit_to(images.values())
    listed = assign_names(
        (name, image_of[source]) for name, source in wanted.items() if source in image_of
    )

    layers, names, directories = choice.layers, dict(listed), choice.directories
    keep_spacer(current, layers)
    add_retired_layers(current, layers, retention, change)
    add_retired_images(current, images, names, layers, retention, change)
    content = StoreContent(
        policy=policy,
        images=images,
        layers=layers,
        names=names,
        retired_entries=retired_entries(current, images, layers, retention),
    )
    known = current.pieces()
    pieces = {
        piece.piece_id: piece
        for each in in_order
        for piece in each.pieces
        if piece.piece_id not in known
    }
    held = {
        name: image_id
        for name, image_id in current.names.items()
        if not is_retired(current.images[image_id])
    }
    return Plan(
        content=content,
        layers=tuple(directories.values()),
        images=tuple(each.files for each in made.values()),
        pieces=tuple(pieces.values()),
        added=tuple(sorted(listed.keys() - held.keys())),
        removed=tuple(sorted(held.keys() - listed.keys())),
        moved=tuple(sorted(n for n in listed if n in held and held[n] != listed[n])),
    )


def _kept(current: StoreContent, sources: Collection[str]) -> dict[str, StoredImage]:
    """The images of ``current`` by their source IDs, as far as these are among ``sources``. If a
    retired image has the same source ID as a listed one, the listed one counts."""
    return {
        source: image
        for image in sorted(current.images.values(), key=is_retired, reverse=True)
        for source in image.all_sources
        if source in sources
    }


def _listed(
    wanted: Mapping[ImageName, str],
    image_of: Mapping[str, str],
    present: Mapping[str, StoredImage],
    made: Mapping[str, StorableImage],
    change: Change,
) -> dict[str, StoredImage]:
    """The records of the images that the store offers, by image ID, with all their names."""
    published: dict[str, list[tuple[str, str]]] = {}
    for name, source in wanted.items():
        if source in image_of:
            paths = published.setdefault(image_of[source], [])
            paths.append((name.repository_path, source))
    images: dict[str, StoredImage] = {}
    for image_id, paths in published.items():
        if image_id in made:
            stored = made[image_id].stored
        else:
            stored = present[image_id]
            stored = replace(stored, outdated=stored.outdated or change is not Change.NONE)
        images[image_id] = _with_names(stored, paths)
    return images


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
