# SPDX-License-Identifier: Apache-2.0
"""What an outage behind a mounted client makes unreadable, for stores that hide such images."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace

from podman_cvmfs.errors import PodmanCvmfsError, RepositoryError, printable
from podman_cvmfs.plan.make import StorableImage
from podman_cvmfs.store.layout import OVERLAY
from podman_cvmfs.store.records import Link, StoreContent
from podman_cvmfs.sync.complete import Completed
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.trouble import trouble_of
from podman_cvmfs.usage.unreadable import unreadable
from podman_cvmfs.usage.vanished import targets


def cut_off(
    request: SyncRequest, current: StoreContent, completed: Completed, unasked: Collection[str]
) -> tuple[Completed, set[str]]:
    """``completed`` without images that can't be read now, with the outages that are the reason;
    and the IDs of layers of ``current`` that can't be read.

    Repositories are looked at that have stopped to answer, or whose client tells of errors, but not
    those that are ``unasked``. All others cost a question to their clients.
    """
    roots = {os.path.abspath(root) for root in request.repositories} - {*unasked}
    troubles = {root: said for root in sorted(roots) if (said := trouble_of(root))}
    asked = {*completed.down, *troubles}
    if not asked:
        return completed, set()
    shown: dict[str, list[str]] = {}
    for layer in current.layers.values():
        if layer.repository in asked:
            for target in targets(f"{request.store.path}/{OVERLAY}", layer):
                shown.setdefault(target, []).append(layer.layer_id)
    new = {source: set(_targets(each, asked)) for source, each in completed.storable.items()}
    bad = unreadable(dict.fromkeys([*shown, *(path for paths in new.values() for path in paths)]))
    down = {root: _outage(root, said, bad) for root, said in troubles.items()}
    return (
        replace(
            completed,
            storable={
                source: each
                for source, each in completed.storable.items()
                if bad.isdisjoint(new[source])
            },
            down={**{r: error for r, error in down.items() if error}, **completed.down},
        ),
        {layer_id for path in bad for layer_id in shown.get(path, ())},
    )


def _targets(image: StorableImage, repositories: Collection[str]) -> Iterable[str]:
    """The directories that the image shows, if it is from one of ``repositories``."""
    if image.stored.repository in repositories:
        for piece in image.pieces:
            if isinstance(piece.part, Link):
                yield piece.part.target


def _outage(root: str, trouble: str, bad: Iterable[str]) -> PodmanCvmfsError | None:
    """The error of the repository at ``root`` with this ``trouble``, if files can't be read."""
    first = min((path for path in bad if path.startswith(f"{root}/")), default=None)
    if first is None:
        return None
    return RepositoryError(
        f"the repository {printable(root)} doesn't answer: {trouble}; can't read "
        f"{printable(first)}",
        "check network, proxy and server (cvmfs_config probe)",
    )
