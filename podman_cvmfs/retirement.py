# SPDX-License-Identifier: Apache-2.0
"""What images leave in a store when they leave it, and how long that stays. Pure: no I/O.

Containers, and images that were pulled onto the store's layers, go on to use what the store offers
no more: layers, documents of images, and former directories of layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from podman_cvmfs.store.records import (
    UNCOMPRESSED,
    StoreContent,
    StoredImage,
    StoredLayer,
    chain_of,
)
from podman_cvmfs.view import SPACER

#: How long layers and files stay that containers may still use, in seconds, unless told otherwise.
GRACE = 14 * 24 * 3600
#: No clock that is set tells an earlier time than that of this line, in seconds since 1970.
_EARLIEST = 1_735_689_600


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
    relaid: bool = False,
) -> None:
    """Add to ``layers`` those that images have left within the grace period, with their parents:
    a container or a pulled image may stand on them. Those ``needed`` stay after it, too; those
    ``useless``, and what stands on them, have no grace. If the policy has ``changed``, no pull
    finds them any more; if it lays layers out otherwise (``relaid``), they are outdated."""
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
                    kept = hidden(link, relaid) if changed else link
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


def hidden(layer: StoredLayer, relaid: bool) -> StoredLayer:
    """``layer`` such that no pull finds it by its digests; outdated if it is laid out otherwise
    than the policy says by now, for that is ``relaid``."""
    return replace(
        layer,
        diff_id=None,
        blob=None,
        blob_size=0,
        compression=UNCOMPRESSED,
        twin=None,
        outdated=layer.outdated or relaid,
    )
