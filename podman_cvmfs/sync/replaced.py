# SPDX-License-Identifier: Apache-2.0
"""Images of the store whose files their repository has taken away since, or put a symbolic link in
their place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from podman_cvmfs.errors import RepositoryError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.plan.retirement import is_retired
from podman_cvmfs.store.records import StoreContent, layers_of
from podman_cvmfs.sync.held import Held
from podman_cvmfs.usage.linked import ShownDirectories, in_use

if TYPE_CHECKING:
    from podman_cvmfs.usage.layer_users import User


@dataclass(frozen=True)
class Replaced:
    """What containers of some images would show now. Values are paths."""

    #: Layers that are reached over a link: ID -> the link.
    layers: Mapping[str, str] = field(default_factory=dict)
    #: Images that have one of these, by their source IDs.
    linked: Mapping[str, str] = field(default_factory=dict)
    #: Images that have a layer whose files are missing -> a directory that is missing.
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> set[str]:
        """The source IDs of all these images."""
        return {*self.linked, *self.lost}


def find_replaced(
    current: StoreContent, shown: ShownDirectories, down: Collection[str]
) -> Replaced:
    """Look at the directories ``shown`` of the listed images of ``current``; not in the
    repositories that are ``down``."""
    layers = current.layers
    asked = [each for each in in_use(current) if layers[each].repository not in down]
    seen = shown.look(current, asked)
    return Replaced(
        seen.linked, _images_with(current, seen.linked), _images_with(current, seen.lost)
    )


def _images_with(current: StoreContent, layers: Mapping[str, str]) -> dict[str, str]:
    """The listed images that have one of these layers, by their source IDs, with the layer's
    path."""
    images: dict[str, str] = {}
    listed = (image for image in current.images.values() if layers and not is_retired(image))
    for image in listed:
        for layer in layers_of(current, image):
            if layer.layer_id in layers:
                images.update(dict.fromkeys(image.all_sources, layers[layer.layer_id]))
    return images


@dataclass(frozen=True)
class Told:
    """What to tell of images: of those that have left the store, and of the others."""

    failed: Mapping[str, RepositoryError]
    warnings: Sequence[str]


def tell(
    replaced: Replaced,
    held: Mapping[ImageName, Held],
    wanted: Mapping[ImageName, str],
    gone: Collection[str],
) -> Told:
    """Tell of the ``replaced`` images, by the names in ``held`` that are still ``wanted`` for them.

    ``gone`` are the source IDs of those that nothing else can show.
    """
    failed: dict[str, RepositoryError] = {}
    warnings: list[str] = []
    for name, each in held.items():
        if each.source not in replaced.images or wanted.get(name) != each.source:
            continue
        link = replaced.linked.get(each.source)
        path = printable(link or replaced.lost[each.source])
        what = "a symbolic link where a directory was" if link else "missing"
        if each.source in gone:
            failed[str(name)] = RepositoryError(
                f"{name}: {path} is {what}: the image has left the store",
                "the repository's owner must put the directory back; then sync again",
            )
        elif link:
            warnings.append(f"{name}: {path} is {what}: the image is shown by other directories")
    return Told(failed, warnings)


def still_shown(
    content: StoreContent, linked: Mapping[str, str], users: Mapping[str, Iterable[User]]
) -> Iterator[str]:
    """What to tell of those who use layers that stay in the store for them."""
    for layer_id in sorted(linked.keys() & content.layers.keys()):
        for user in users.get(layer_id, ()):
            path = printable(linked[layer_id])
            yield f"{user} shows what the symbolic link {path} leads to: remove it"
