# SPDX-License-Identifier: Apache-2.0
"""Removes retired layers and files from a store, unless a container or another image needs them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from podman_cvmfs.errors import StoreError, printable
from podman_cvmfs.plan.retirement import (
    GRACE,
    Retention,
    add_retired_images,
    add_retired_layers,
    is_retired,
    keep_spacer,
    retired_entries,
)
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent, StoredLayer, layers_of
from podman_cvmfs.store.store import Store
from podman_cvmfs.usage.needs import Needs, find_needs
from podman_cvmfs.usage.vanished import vanished_layers


@dataclass(frozen=True)
class PruneVerdict:
    """Whether something retired stays, and why.

    ``kind`` is image, layer or entry: an old directory in the pool that another one has replaced.
    ``name`` is its ID; an entry's begins with the ID of its layer or image. ``retired`` is in
    seconds since 1970. ``reasons`` say why it stays; they are empty if it is removed. ``vanished``:
    the repository no longer has its files.
    """

    kind: str
    name: str
    retired: int
    reasons: tuple[str, ...]
    vanished: bool = False

    @property
    def stays(self) -> bool:
        """Whether it stays in the store."""
        return bool(self.reasons)


@dataclass
class PruneReport:
    """What was or would be removed. ``graphroots`` were searched. ``unreadable`` maps graphroots
    that couldn't be read completely to the reason."""

    verdicts: list[PruneVerdict] = field(default_factory=list)
    graphroots: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    changed: bool = False


def prune(
    store: Store,
    grace: int = GRACE,
    graphroots: Sequence[str] = (),
    dry_run: bool = False,
    now: int | None = None,
    patterns: Sequence[str] = (),
) -> PruneReport:
    """Remove from ``store`` the layers and pool entries that were retired at least ``grace``
    seconds before ``now`` (seconds since 1970) and that nobody needs.

    Users are looked for in the ``graphroots``, in those that the settings' ``patterns`` mean, and
    in all others that are visible. With ``dry_run`` the store is only read. Raises StoreError if
    there is no store, InputError if one of the ``graphroots`` isn't there.
    """
    now = int(time.time()) if now is None else now
    present = read_store(store.path)
    if present is None:
        raise StoreError(
            f"there is no store at {printable(store.path)}", "name it with --store DIR"
        )
    if dry_run:
        return _prune(store, present, find_needs(present, grace, graphroots, patterns), grace, now)[
            1
        ]
    with store.opened() as current:
        needs = find_needs(current, grace, graphroots, patterns)
        content, report = _prune(store, current, needs, grace, now)
        report.changed = store.replace(content, (), ())
    return report


def _prune(
    store: Store, current: StoreContent, needs: Needs, grace: int, now: int
) -> tuple[StoreContent, PruneReport]:
    wanted = _wanted(current)
    vanished = vanished_layers(store.path, current, current.layers.keys() - wanted.keys())
    retention = Retention(now, grace, needs.layers(current), vanished)
    content = _pruned(current, wanted, retention)
    verdicts = _explain(current, content, retention, needs)
    return content, PruneReport(verdicts, list(needs.graphroots), dict(needs.unreadable))


def _pruned(
    current: StoreContent, wanted: Mapping[str, StoredLayer], retention: Retention
) -> StoreContent:
    """``current`` with the layers ``wanted``, and with the other layers and files that
    ``retention`` keeps."""
    layers = dict(wanted)
    keep_spacer(current, layers)
    images = {key: image for key, image in current.images.items() if not is_retired(image)}
    names = {name: key for name, key in current.names.items() if key in images}
    add_retired_layers(current, layers, retention)
    add_retired_images(current, images, names, layers, retention)
    entries = retired_entries(current, images, layers, retention)
    return replace(current, images=images, names=names, layers=layers, retired_entries=entries)


def _explain(
    current: StoreContent, content: StoreContent, retention: Retention, needs: Needs
) -> list[PruneVerdict]:
    """Say for everything retired in ``current`` why it stays in ``content``, or that it is
    removed."""
    wanted = _wanted(current)
    children: dict[str, str] = {}
    for layer in content.layers.values():
        if layer.parent is not None:
            children.setdefault(layer.parent, layer.layer_id)

    def reasons(layer_id: str, since: int, has_grace: bool = True) -> Iterable[str]:
        yield from map(str, needs.users.get(layer_id, ()))
        if needs.keeps_all:
            yield 'grace_days is "never"'
        elif has_grace and retention.has_grace(since):
            yield f"grace until {_date(since + retention.grace)}"
        yield from (f"{printable(path)} can't be read" for path in needs.blocked_by)

    verdicts = []
    images = [image for image in current.images.values() if is_retired(image)]
    for image in sorted(images, key=lambda each: each.image_id):
        since = retention.since(current.retired_entries.get(image.entry))
        stays = image.image_id in content.images
        why = tuple(reasons(image.top_layer or "", since)) if stays else ()
        verdicts.append(PruneVerdict("image", image.image_id, since, why))
    for layer_id in sorted(current.layers.keys() - wanted.keys()):
        since = retention.since(current.layers[layer_id].retired)
        vanished = layer_id in retention.useless
        why = ()
        if layer_id in content.layers:
            why = tuple(reasons(layer_id, since, not vanished))
            if not why:
                why = (f"layer {children[layer_id][:12]} needs it",)
        verdicts.append(PruneVerdict("layer", layer_id, since, why, vanished))
    for entry in sorted(current.retired_entries.keys() - current.entries()):
        since = retention.since(current.retired_entries[entry])
        layer_id = entry.partition("-")[0]
        why = tuple(reasons(layer_id, since)) if entry in content.retired_entries else ()
        verdicts.append(PruneVerdict("entry", entry, since, why))
    return verdicts


def _wanted(current: StoreContent) -> dict[str, StoredLayer]:
    """The layers of the listed images."""
    listed = (image for image in current.images.values() if not is_retired(image))
    return {layer.layer_id: layer for image in listed for layer in layers_of(current, image)}


def _date(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
