# SPDX-License-Identifier: Apache-2.0
"""Takes one image of the store apart: its layers, and where their files are."""

from __future__ import annotations

import os
from dataclasses import dataclass

from podman_cvmfs.errors import InputError, StoreError, printable
from podman_cvmfs.oci.big_data import big_data_file
from podman_cvmfs.oci.documents import MAX_DOCUMENT, Digest, ImageConfig, parse_config
from podman_cvmfs.settings.advice import on_store
from podman_cvmfs.store.layout import CURRENT, FILES, IMAGES, OVERLAY
from podman_cvmfs.store.records import StoreContent, StoredImage, StoredLayer, chain_of
from podman_cvmfs.util.foreign_file import read_bounded

#: No layer of layout 4 has more: the format of containers/storage ends at diff999.
_MAX_PARTS = 1000


@dataclass(frozen=True)
class Place:
    """One of the directories that show a layer: its name there (diff, lower1, ..; in a layer of
    layout 4 diff1, ..), and the absolute path its files are at; ``in_store`` says that this is a
    directory of the store itself."""

    name: str
    path: str
    in_store: bool


@dataclass(frozen=True)
class LayerAnatomy:
    """A layer of an image. ``diff_id`` is its diff ID in the image's config. ``is_genuine`` says
    whether it is that layer; else it is a stand-in."""

    layer: StoredLayer
    diff_id: Digest | None
    is_genuine: bool
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Anatomy:
    """An image with its config and its layers, base first."""

    image: StoredImage
    config: ImageConfig
    layers: tuple[LayerAnatomy, ...]


def anatomy_of(store: str, content: StoreContent, image: StoredImage) -> Anatomy:
    """Take ``image`` of the store in the directory ``store`` apart.

    Raises StoreError where the store lacks a part of it.
    """
    config = config_of(store, image)
    chain = chain_of(content, image.top_layer)[::-1]
    diff_ids = config.diff_ids if len(config.diff_ids) == len(chain) else (None,) * len(chain)
    below: str | None = None
    layers = []
    for layer, diff_id in zip(chain, diff_ids):
        is_genuine = diff_id is not None and layer.layer_id == _layer_id(below, diff_id)
        layers.append(LayerAnatomy(layer, diff_id, is_genuine, places_of(store, layer)))
        below = layer.layer_id
    return Anatomy(image, config, tuple(layers))


def config_of(store: str, image: StoredImage) -> ImageConfig:
    """The config of ``image`` as the store holds it. Raises StoreError."""
    digest = f"sha256:{image.image_id}"
    path = f"{store}/{CURRENT}/{IMAGES}/{image.image_id}/{big_data_file(digest)}"
    try:
        return parse_config(read_bounded(path, MAX_DOCUMENT), f"the config of {digest}")
    except (OSError, InputError) as err:
        reason = err.message if isinstance(err, InputError) else err.strerror or str(err)
        raise StoreError(
            f"can't read {printable(path)}: {reason}", _tells_the_damage(store)
        ) from err


def places_of(store: str, layer: StoredLayer) -> tuple[Place, ...]:
    """The parts of ``layer``, the one that hides the others first. Raises StoreError."""
    overlay = f"{store}/{CURRENT}/{OVERLAY}"
    directory = f"{overlay}/{layer.layer_id}"
    if layer.lowers is None:
        names = ("diff", *(f"diff{number}" for number in range(1, _MAX_PARTS)))
        paths = {name: f"{directory}/{name}" for name in names}
    else:
        paths = {"diff": f"{directory}/diff"}
        for number, piece_id in enumerate(layer.lowers, 1):
            paths[f"lower{number}"] = f"{overlay}/{piece_id}/diff"
    places: list[Place] = []
    for name, path in paths.items():
        if not os.path.lexists(path):
            break
        files = f"{os.path.dirname(path)}/{FILES}"
        if os.path.islink(files) or os.path.islink(path):
            target = os.readlink(files if os.path.islink(files) else path)
            places.append(Place(name, target, in_store=False))
        else:
            places.append(Place(name, path, in_store=True))
    if not places:
        raise StoreError(
            f"layer {layer.layer_id[:12]} has no files: {printable(directory)}/diff is missing",
            _tells_the_damage(store),
        )
    return tuple(places)


def _tells_the_damage(store: str) -> str:
    return f"'{on_store(store, 'verify')}' shows the damage"


def _layer_id(below: str | None, diff_id: Digest) -> str:
    if below is None:
        return diff_id.hex
    return Digest.of(f"{below}+{diff_id.hex}".encode()).hex
