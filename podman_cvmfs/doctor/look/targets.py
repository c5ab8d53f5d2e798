# SPDX-License-Identifier: Apache-2.0
"""Look at what shows the images of our store: whether it is there, and whether podman sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from podman_cvmfs.doctor.facts import Targets
from podman_cvmfs.errors import StoreError
from podman_cvmfs.podman.pause import is_hidden, pause_root
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.usage.unreadable import unreadable
from podman_cvmfs.usage.vanished import is_missing, targets
from podman_cvmfs.util.probe import HangingError, bounded

#: This share of the time may be waited for files of a dead server.
_SHARE = 0.7


def look_at_targets(
    store: str, repositories: Iterable[str], seconds: float, troubled: Collection[str] = ()
) -> Targets:
    """What of ``store`` can't be seen though its repository, one of these, can be. In ``troubled``
    repositories a file of each image is read."""
    asked = tuple(repositories)
    try:
        return bounded(lambda: _look(store, asked, troubled, seconds * _SHARE), seconds)
    except (HangingError, OSError, StoreError):
        return Targets()


def _look(
    store: str, repositories: tuple[str, ...], troubled: Collection[str], patience: float
) -> Targets:
    content = read_store(store) or StoreContent()
    names: dict[str, str] = {}
    for name, image_id in sorted(content.names.items(), reverse=True):
        names[image_id] = name
    root = pause_root()
    gone, hidden = [], []
    to_read: dict[str, dict[str, list[str]]] = {}
    for image_id, name in names.items():
        layer = content.layers.get(content.images[image_id].top_layer or "")
        if layer is None or layer.repository not in repositories:
            continue
        shown = list(targets(f"{store}/{OVERLAY}", layer))
        gone += [name] if any(map(is_missing, shown)) else []
        hidden += [name] if any(is_hidden(each, root) for each in shown) else []
        if layer.repository in troubled:
            to_read.setdefault(layer.repository, {})[name] = shown
    return Targets(
        gone=tuple(sorted(gone)),
        hidden=tuple(sorted(hidden)),
        unread={place: _unread(each, patience) for place, each in to_read.items()},
    )


def _unread(shown: Mapping[str, Sequence[str]], patience: float) -> tuple[str, ...]:
    """The names whose images show something that can't be read."""
    directories = dict.fromkeys(path for paths in shown.values() for path in paths)
    bad = unreadable(directories, patience)
    return tuple(sorted(name for name, paths in shown.items() if not bad.isdisjoint(paths)))
