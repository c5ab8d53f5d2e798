# SPDX-License-Identifier: Apache-2.0
"""The state of a store: its last sync, its content, and the next change that is due."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from podman_cvmfs.lists.kept import KeptLists
from podman_cvmfs.plan.retirement import NEVER, grace_of, is_retired
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.resolve.manifest import GENUINE, UNANSWERED
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.settings.policy import View
from podman_cvmfs.store.layout import CURRENT, SPACER_ID
from podman_cvmfs.store.metadata_size import metadata_bytes
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.sync.stamp import FOR_EVER, read_stamp, revision_of


@dataclass(frozen=True)
class RepositoryStatus:
    """One repository. ``revision`` is CernVM-FS's present one, None for a plain directory.
    ``problem`` says why the repository can't be read. ``synced`` (seconds since 1970) is the time
    of the last sync if that did everything, else None; ``synced_revision`` is the revision that it
    read. ``expires`` is when a sync compares everything again even if nothing has changed, None for
    never.
    """

    path: str
    images: int
    revision: int | None = None
    problem: str = ""
    synced: int | None = None
    synced_revision: int | None = None
    expires: int | None = None


@dataclass(frozen=True)
class Due:
    """Something to be done at ``when`` (seconds since 1970)."""

    when: int
    what: str


@dataclass(frozen=True)
class Status:
    """A store. ``changed`` (seconds since 1970) is when a sync or prune last changed it, None if
    nothing has been written yet. ``cache`` is the directory with the records of syncs. ``counts``
    are by kind, in the order to show them. ``lists`` is how many bytes file lists take in the
    cache, and ``lists_budget`` how many they may."""

    store: str
    cache: str
    changed: int | None
    generation: str
    policy: str
    policy_wanted: str
    counts: Mapping[str, int]
    repositories: tuple[RepositoryStatus, ...]
    due: tuple[Due, ...]
    #: The bytes that the metadata of the exact view take.
    metadata: int = 0
    #: Why no image gets the exact view, if the settings ask for it; "" if images do.
    not_exact: str = ""
    #: The bytes that file lists take in the cache, and how many they may take.
    lists: int = 0
    lists_budget: int = 0


def status_of(settings: Settings, content: StoreContent) -> Status:
    """Look at the store of the settings, whose content is ``content``, and at its repositories."""
    changed, generation = _generation(settings.store)
    repositories = tuple(_repository(settings, content, root) for root in settings.repositories)
    return Status(
        store=settings.store,
        cache=settings.cache,
        changed=changed,
        generation=generation,
        policy=content.policy,
        policy_wanted=str(settings.policy),
        counts=counts_of(content),
        repositories=repositories,
        due=_due(settings, content, repositories),
        metadata=metadata_bytes(settings.store),
        not_exact=settings.not_exact if settings.view is View.EXACT else "",
        lists=KeptLists(settings.cache, settings.lists_budget).size(),
        lists_budget=settings.lists_budget,
    )


def counts_of(content: StoreContent) -> dict[str, int]:
    """Count the store's images, names, layers and entries by kind. Pure."""
    images = [image for image in content.images.values() if not is_retired(image)]
    layers = [layer for layer in content.layers.values() if layer.layer_id != SPACER_ID]
    current = {image.image_id for image in images}
    return {
        "images": len(images),
        "names": sum(image_id in current for image_id in content.names.values()),
        "layers": len(layers),
        "synthesised": sum(image.config_origin == SYNTHESISED for image in images),
        "rebuilt_manifests": sum(image.manifest_origin != GENUINE for image in images),
        "unanswered_manifests": sum(image.manifest_origin == UNANSWERED for image in images),
        "exact": sum(image.view == View.EXACT.value for image in images),
        "flat": sum(image.view == "flat" for image in images),
        "advertised_layers": sum(layer.diff_id is not None for layer in layers),
        "retired_images": len(content.images) - len(images),
        "retired_layers": sum(layer.retired is not None for layer in layers),
        "retired_entries": len(content.retired_entries),
    }


def _generation(store: str) -> tuple[int | None, str]:
    """When the current generation became the current one, and its number."""
    try:
        current = f"{store}/{CURRENT}"
        return int(os.lstat(current).st_mtime), os.path.basename(os.readlink(current))
    except OSError:
        return None, ""


def _repository(settings: Settings, content: StoreContent, root: str) -> RepositoryStatus:
    images = [image for image in content.images.values() if image.repository == root]
    stamp = read_stamp(settings.cache, settings.store, root)
    revision, problem = None, ""
    try:
        revision = _number(revision_of(root))
    except OSError as err:
        problem = err.strerror or str(err)
    expires = _whole(stamp.get("expires"))
    return RepositoryStatus(
        path=root,
        images=sum(not is_retired(image) for image in images),
        revision=revision,
        problem=problem,
        synced=_whole(stamp.get("written")),
        synced_revision=_number(stamp.get("revision")),
        expires=expires if expires is not None and expires < FOR_EVER else None,
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(revision: object) -> int | None:
    """The number in what ``stamp.revision_of`` tells."""
    if isinstance(revision, list) and revision and str(revision[0]).isdecimal():
        return int(revision[0])
    return None


def _due(
    settings: Settings, content: StoreContent, repositories: tuple[RepositoryStatus, ...]
) -> tuple[Due, ...]:
    grace = grace_of(settings.grace_days)
    retired = [layer.retired for layer in content.layers.values() if layer.retired is not None]
    retired += content.retired_entries.values()
    due = []
    if retired and grace != NEVER:
        what = "the first retired layers may be removed"
        due.append(Due(min(retired) + grace, what))
    for each in repositories:
        if each.expires is not None and (not retired or each.expires != min(retired) + grace):
            due.append(Due(each.expires, f"the next sync compares everything of {each.path} again"))
    return tuple(sorted(due, key=lambda each: each.when))
