# SPDX-License-Identifier: Apache-2.0
"""Bring a store up to date with a repository: drives reading, resolving, planning and writing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from podman_cvmfs.blobcache import BlobCache
from podman_cvmfs.config_ladder import SYNTHESISED, ConfigLadder, ConfigSource
from podman_cvmfs.engine import SHORT_MOUNT_DATA, mount_data_limit
from podman_cvmfs.errors import (
    InputError,
    PodmanCvmfsError,
    RepositoryError,
    StoreError,
    printable,
)
from podman_cvmfs.plan import Candidate, make_plan, orphaned_views
from podman_cvmfs.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.progress import track
from podman_cvmfs.reference import ImageName, parse_name, parse_repository_path
from podman_cvmfs.resolve import Resolver
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.store import Store
from podman_cvmfs.unpacked import Problem, PublishedImage, Repository
from podman_cvmfs.view import mount_bytes, view_of

log = logging.getLogger(__name__)

#: Reads wait for the network where /cvmfs is cold, so many are under way at once.
_READERS = 16
#: Reading an image's few files from a local disk or a warm cache takes less, in seconds.
_SLOW = 0.01


@dataclass
class SyncReport:
    """What a sync did. Names are podman's; ``failed`` maps what couldn't be done to why."""

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    moved: Sequence[str] = ()
    images: int = 0
    synthesised: int = 0
    changed: bool = False
    failed: dict[str, PodmanCvmfsError] = field(default_factory=dict)


def sync(
    repository: Repository,
    store: Store,
    cache: BlobCache,
    registry: Callable[[], ConfigSource] | None,
    requested: Sequence[str] = (),
    policy: Policy = DEFAULT_POLICY,
) -> SyncReport:
    """Make ``store`` offer the images of ``repository``: all, or also those ``requested``.

    ``registry`` makes the client that is asked for configs which are nowhere else; None leaves
    registries out. A store laid out under another ``policy`` is laid out anew. An image that can't
    be done is reported in the result and keeps what the store had under its name. Raises
    RepositoryError, StoreError, or InputError for a malformed name in ``requested``; then the
    store is as it was.
    """
    report = SyncReport()
    wishes = {name: parse_name(name) for name in requested}
    problems: list[Problem] = []
    listed = list(repository.images(problems))
    with store.opened() as current:
        held = _held(current)
        if requested:
            chosen = _chosen(listed, wishes, problems, report)
            wanted = {**held, **{image.name: image.image_id.hex for image in chosen}}
        else:
            if not listed and current.images:
                raise _nothing_listed(repository, problems)
            chosen = listed
            wanted = {image.name: image.image_id.hex for image in listed}
            for problem in problems:
                report.failed[problem.path or "."] = problem.error
                wanted.update(_still_held(held, problem.path))
        missing = _to_resolve(current, chosen, wanted, registry is not None)
        if current.policy != str(policy):
            missing |= set(wanted.values())
        todo = _grouped(listed, missing)
        ladder = ConfigLadder(repository, cache, registry)
        layout = _Layout(Resolver(repository, cache, ladder, policy), policy, store.path)
        candidates = _resolve_all(layout, todo, report)
        for source, images in todo.items():
            if source not in candidates:
                _keep_old(wanted, held, images)
        now = int(time.time())
        plan = make_plan(current, wanted, candidates, repository.root, str(policy), now)
        report.changed = store.replace(plan.content, plan.layers, plan.images)
    report.added, report.removed, report.moved = plan.added, plan.removed, plan.moved
    report.images = len(plan.content.images)
    report.synthesised = sum(
        image.config_origin == SYNTHESISED for image in plan.content.images.values()
    )
    return report


def _nothing_listed(repository: Repository, problems: Sequence[Problem]) -> RepositoryError:
    if problems:
        return RepositoryError(problems[0].error.message, problems[0].error.hint)
    return RepositoryError(
        f"the repository {printable(repository.root)} holds no image; the store is left as it is",
        "is it mounted? to empty the store on purpose, remove its directory",
    )


def _held(current: StoreContent) -> dict[ImageName, str]:
    """What the store offers now: name in the repository -> source ID."""
    return {
        parse_repository_path(path): image.source_id
        for image in current.images.values()
        for path in image.published
    }


def _still_held(held: Mapping[ImageName, str], path: str) -> dict[ImageName, str]:
    """The part of ``held`` at or below ``path``, which can't be read just now."""
    return {
        name: source
        for name, source in held.items()
        if not path or f"{name.repository_path}/".startswith(f"{path}/")
    }


def _keep_old(
    wanted: dict[ImageName, str], held: Mapping[ImageName, str], images: Iterable[PublishedImage]
) -> None:
    """Let names whose new image can't be done lead to their old one, if they have one."""
    for image in images:
        if image.name in held:
            wanted[image.name] = held[image.name]
        else:
            wanted.pop(image.name, None)


def _chosen(
    listed: Sequence[PublishedImage],
    wishes: Mapping[str, ImageName],
    problems: Sequence[Problem],
    report: SyncReport,
) -> list[PublishedImage]:
    """The listed images that were asked for by name; the others go to the report."""
    by_name: dict[ImageName, PublishedImage] = {}
    for image in listed:
        by_name.setdefault(image.name.canonical, image)
    broken = {problem.path: problem.error for problem in problems}
    chosen = []
    for text, name in wishes.items():
        if name in by_name:
            chosen.append(by_name[name])
            continue
        error = broken.get(name.repository_path) or InputError(
            f"no such image in the repository: {printable(text)}",
            "names are as podman writes them, with their tag: registry/repository:tag",
        )
        report.failed[text] = error
    return chosen


def _to_resolve(
    current: StoreContent,
    chosen: Sequence[PublishedImage],
    wanted: Mapping[ImageName, str],
    online: bool,
) -> set[str]:
    """The source IDs of images that the store hasn't got, or not right.

    A synthesised config is tried again, since the registry may have the genuine one by now.
    """
    present = {
        image.source_id
        for image in current.images.values()
        if not (online and image.config_origin == SYNTHESISED)
    }
    missing = {image.image_id.hex for image in chosen} - present
    return missing | orphaned_views(current, set(wanted.values()))


def _grouped(
    listed: Sequence[PublishedImage], sources: Collection[str]
) -> dict[str, list[PublishedImage]]:
    """The listed images among ``sources``, by source ID: one image may have many names."""
    grouped: dict[str, list[PublishedImage]] = {}
    for image in listed:
        if image.image_id.hex in sources:
            grouped.setdefault(image.image_id.hex, []).append(image)
    return grouped


@dataclass(frozen=True)
class _Layout:
    """Completes images and lays them out for a store at the path ``store``."""

    resolver: Resolver
    policy: Policy
    store: str

    def candidate(self, images: Sequence[PublishedImage]) -> Candidate:
        """Raises RepositoryError for an image that can't be shown right, StoreError."""
        image = self.resolver.resolve(images)
        try:
            view = view_of(image, self.policy)
        except RepositoryError as err:
            raise RepositoryError(f"{images[0].name}: {err.message}", err.hint) from None
        length = mount_bytes(view, self.store)
        # Only a deep image is worth asking podman for its version.
        limit = mount_data_limit() if length > SHORT_MOUNT_DATA else None
        if limit is not None and length > limit:
            raise RepositoryError(
                f"{images[0].name}: podman 4 can't mount its {len(image.layers)} layers: "
                f"{length} bytes of mount options, where {limit} fit",
                "use podman 5, the flat view, or a store with a shorter path",
            )
        return Candidate(image, view)


def _resolve_all(
    layout: _Layout, todo: Mapping[str, list[PublishedImage]], report: SyncReport
) -> dict[str, Candidate]:
    """Resolve images in parallel; those that fail go to the report."""

    def resolve(images: list[PublishedImage]) -> Candidate | PodmanCvmfsError:
        try:
            return layout.candidate(images)
        except StoreError:
            raise
        except PodmanCvmfsError as err:
            return err

    candidates = {}
    results = track(_parallel(resolve, todo.values()), len(todo), "Reading images")
    for (source, images), result in zip(todo.items(), results):
        if isinstance(result, Candidate):
            candidates[source] = result
        else:
            report.failed.update({str(image.name): result for image in images})
    return candidates


T = TypeVar("T")
R = TypeVar("R")


def _parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of ``work`` in order; what hasn't begun is dropped on an interrupt.

    It is done one by one until an item is slow: reads that don't wait for a network gain nothing
    from threads, and threads cost more than such reads.
    """
    pending = iter(items)
    for item in pending:
        start = time.monotonic()
        yield work(item)
        if time.monotonic() - start > _SLOW:
            break
    pool = ThreadPoolExecutor(_READERS)
    try:
        yield from pool.map(work, pending)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
