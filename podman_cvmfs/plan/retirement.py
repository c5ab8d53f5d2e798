# SPDX-License-Identifier: Apache-2.0
"""Decides how long layers and files stay after their image has left the store. Pure: no I/O.

Containers, and images pulled onto the store's layers, still use retired things: layers, documents
of images, and former directories of layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from podman_cvmfs.settings.policy import Change
from podman_cvmfs.store.layout import SPACER_ID, piece_entry
from podman_cvmfs.store.records import (
    UNCOMPRESSED,
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
)

#: How long retired layers and files stay by default, in seconds.
GRACE = 14 * 24 * 3600
#: The registry in the names of retired images.
RETIRED_REGISTRY = "retired.podman-cvmfs.invalid"
#: A grace that doesn't end, in seconds: then not even layers without grace leave the store.
NEVER = 1 << 40
#: A correct clock is later than this time, in seconds since 1970.
_EARLIEST = 1_735_689_600


def grace_of(days: int | None) -> int:
    """The grace, in seconds, that lasts so many days; None: for ever."""
    return NEVER if days is None else days * 24 * 3600


def retired_since(since: int | None, now: int) -> int:
    """The time from which the grace of something retired at ``since`` counts, None for now.

    An impossible time comes from a wrong clock. With it, things would stay for ever or leave at
    once. So their grace begins now.
    """
    if since is None or since > now or since < _EARLIEST <= now:
        return now
    return since


@dataclass(frozen=True)
class Retention:
    """The rules for how long retired things stay in a store."""

    #: The time, in seconds since 1970.
    now: int
    #: How many seconds it stays.
    grace: int = GRACE
    #: IDs of layers that stay after their grace, too.
    needed: Collection[str] = ()
    #: IDs of layers without grace. The layers above them have no grace either.
    useless: Collection[str] = ()

    def since(self, retired: int | None) -> int:
        """The time from which the grace of something ``retired`` at that time counts."""
        return retired_since(retired, self.now)

    def has_grace(self, retired: int | None) -> bool:
        """Whether something ``retired`` at that time is within its grace."""
        return self.now - self.since(retired) < self.grace


def stays(current: StoreContent, layer: StoredLayer, retention: Retention) -> bool:
    """Whether ``layer`` of ``current`` stays although no image has it any more."""
    usable = retention.has_grace(layer.retired) and not is_useless(current, layer, retention)
    return usable or layer.layer_id in retention.needed


def is_useless(current: StoreContent, layer: StoredLayer, retention: Retention) -> bool:
    """Whether ``layer``, or one below it, has no grace."""
    if not retention.useless:
        return False
    return any(link.layer_id in retention.useless for link in chain_of(current, layer.layer_id))


def add_retired_layers(
    current: StoreContent,
    layers: dict[str, StoredLayer],
    retention: Retention,
    change: Change = Change.NONE,
) -> None:
    """Add to ``layers`` the retired layers of ``current`` that stay, with their parents: a
    container or a pulled image may use them. After a ``change`` of policy pulls can't find them any
    more."""
    for layer in current.layers.values():
        if layer.layer_id in layers:
            continue
        if stays(current, layer, retention):
            for link in chain_of(current, layer.layer_id):
                if link.layer_id not in layers:
                    kept = hidden(link, change)
                    layers[link.layer_id] = replace(kept, retired=retention.since(link.retired))


def keep_spacer(current: StoreContent, layers: dict[str, StoredLayer]) -> None:
    """Keep the spacer of layout 4 among ``layers`` as long as layers of images mount it."""
    mount_it = any(layer.lowers is None and layer.retired is None for layer in layers.values())
    if SPACER_ID in current.layers and mount_it:
        layers[SPACER_ID] = replace(current.layers[SPACER_ID], retired=None)


def is_retired(image: StoredImage) -> bool:
    """Whether ``image`` has lost its names, and stays only for containers made of it."""
    return not image.published


def retired_name(image_id: str) -> str:
    """The name of a retired image. podman takes an image without a name for a leftover, and would
    try to remove it with the last image made from it. Nobody owns ``.invalid`` (RFC 2606)."""
    return f"{RETIRED_REGISTRY}/image:{image_id[:12]}"


def add_retired_images(
    current: StoreContent,
    images: dict[str, StoredImage],
    names: dict[str, str],
    layers: Mapping[str, StoredLayer],
    retention: Retention,
    change: Change = Change.NONE,
) -> None:
    """Add to ``images`` the retired images of ``current``: those within their grace, and later
    those whose top layer is needed.

    All their layers must be among ``layers``. In ``names`` each gets its retired name. After a
    ``change`` of policy they are outdated. Without the image podman can't inspect or commit its
    containers, and ``podman system df`` fails completely. An image that a user has tagged reads its
    documents from ours.
    """
    for image in current.images.values():
        has_grace = retention.has_grace(current.retired_entries.get(image.entry))
        keeps = has_grace or image.top_layer in retention.needed
        complete = image.top_layer is None or image.top_layer in layers
        if keeps and complete and image.image_id not in images:
            images[image.image_id] = replace(
                image,
                published=(),
                sources=(),
                outdated=image.outdated or change is not Change.NONE,
            )
            names[retired_name(image.image_id)] = image.image_id


def retired_entries(
    current: StoreContent,
    images: Mapping[str, StoredImage],
    layers: Mapping[str, StoredLayer],
    retention: Retention,
) -> dict[str, int]:
    """The pool entries that the store no longer leads to, with the time from which their grace
    counts.

    They are within their grace, or belong to needed layers, which may still be mounted. Entries of
    retired images are included, to record when these were retired.
    """
    listed = {key: image for key, image in images.items() if not is_retired(image)}
    used = StoreContent(images=listed, layers=layers).entries()
    retired = {image.entry for image in images.values() if is_retired(image)}
    left: dict[str, int | None] = {image.entry: None for image in current.images.values()}
    for layer in current.layers.values():
        left[layer.entry] = layer.retired
        for piece_id in layer.lowers or ():
            entry = piece_entry(piece_id)
            # A piece that several layers mount is left with the last of them.
            left[entry] = _later(left.get(entry, 0), layer.retired)
    left.update(current.retired_entries)
    graceless = {
        entry
        for layer in current.layers.values()
        if is_useless(current, layer, retention)
        for entry in (layer.entry, *map(piece_entry, layer.lowers or ()))
    }
    left = {entry: since for entry, since in left.items() if entry not in used}
    return {
        entry: retention.since(since)
        for entry, since in left.items()
        if (retention.has_grace(since) and entry not in graceless)
        or entry in retired
        or entry.partition("-")[0] in retention.needed
    }


def _later(since: int | None, other: int | None) -> int | None:
    """The later of two times; None is now."""
    return None if since is None or other is None else max(since, other)


def hidden(layer: StoredLayer, change: Change) -> StoredLayer:
    """``layer`` after a ``change`` of policy: hidden from pulls by digest, and outdated if it would
    now be laid out differently."""
    if change is Change.NONE:
        return layer
    return replace(
        layer,
        diff_id=None,
        blob=None,
        blob_size=0,
        compression=UNCOMPRESSED,
        twin=None,
        outdated=layer.outdated or change is Change.LAID_OUT,
    )
