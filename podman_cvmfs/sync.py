# SPDX-License-Identifier: Apache-2.0
"""Bring a store up to date with repositories: drives reading, resolving, planning and writing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from podman_cvmfs.blobcache import BlobCache
from podman_cvmfs.config_ladder import SYNTHESISED
from podman_cvmfs.engine import SHORT_MOUNT_DATA, mount_data_limit
from podman_cvmfs.errors import (
    InputError,
    OtherPlatformError,
    PodmanCvmfsError,
    RepositoryError,
    StoreError,
    printable,
)
from podman_cvmfs.offers import (
    AnyRepository,
    Held,
    Offer,
    Offers,
    collect,
    held_by,
    may_lie_below,
    still_held,
)
from podman_cvmfs.osg import OsgRepository
from podman_cvmfs.osg_resolve import OsgResolver
from podman_cvmfs.plan import (
    GRACE,
    Candidate,
    Plan,
    candidate_of,
    chain_of,
    is_retired,
    make_plan,
    orphaned_views,
)
from podman_cvmfs.platforms import Platform
from podman_cvmfs.policy import DEFAULT_POLICY, Policy
from podman_cvmfs.progress import track
from podman_cvmfs.prune import find_needs, needed_layers
from podman_cvmfs.reference import ImageName, parse_name, split_domain
from podman_cvmfs.registries_conf import load_registries_conf
from podman_cvmfs.registry_access import RegistryAccess, RegistrySource
from podman_cvmfs.resolve import Resolver
from podman_cvmfs.selection import Selection
from podman_cvmfs.short_names import candidates as short_name_candidates
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.store.store import Store
from podman_cvmfs.unpacked import OtherPlatforms
from podman_cvmfs.view import mount_bytes, view_of

#: Reads wait for the network where /cvmfs is cold, so many are under way at once.
_READERS = 16
#: Reading an image's few files from a local disk or a warm cache takes less, in seconds.
_SLOW = 0.01
#: How often what is used beyond its grace is looked at again, in seconds.
_LOOK_AGAIN = 24 * 3600

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Wishes:
    """What to bring into which store.

    ``repositories`` are directories in order of preference: of two images with one name the first
    wins. With ``requested`` names only these are added; else the store shall hold just what
    ``selection`` wants, as far as it runs on ``platform``. ``registry`` makes the client asked for
    configs that are nowhere else, None leaves registries out. ``hide_outage`` takes the images of a
    repository that can't be read out of the store until it can, so that podman pulls them. What
    leaves the store stays usable for ``grace`` seconds.
    """

    repositories: Sequence[str]
    store: Store
    cache: BlobCache
    registry: Callable[[], RegistrySource] | None = None
    requested: Sequence[str] = ()
    selection: Selection = field(default_factory=Selection)
    platform: Platform = field(default_factory=Platform.of_host)
    policy: Policy = DEFAULT_POLICY
    hide_outage: bool = False
    grace: int = GRACE


@dataclass
class SyncReport:
    """What a sync did. Names are podman's; ``failed`` maps what couldn't be done to why,
    ``left_out`` what was wished for but is there for another architecture only to which.
    ``silent`` maps registries that left a question unanswered to why, ``waiting`` to the names of
    images whose config is made up because of that.

    ``notices`` say what users should know of the repositories although nothing failed.
    ``next_due`` is the time (seconds since 1970) at which something is to be done even if nothing
    changes, None if never.
    """

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    moved: Sequence[str] = ()
    images: int = 0
    synthesised: int = 0
    changed: bool = False
    failed: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    left_out: dict[str, PodmanCvmfsError] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    notices: Sequence[str] = ()
    next_due: int | None = None


def sync(wishes: Wishes) -> SyncReport:
    """Make the store offer what ``wishes`` say.

    A store laid out under another policy is laid out anew. An image that can't be done is reported
    in the result and keeps what the store had under its name. Raises RepositoryError if no
    repository can be read, StoreError, or InputError for a malformed name among those requested;
    then the store is as it was.
    """
    report = SyncReport()
    requested = {text: _meanings(text) for text in wishes.requested}
    with wishes.store.opened() as current:
        # What was listed and resolved has gone when the store is written: that, too, takes memory.
        plan = _prepare(current, requested, wishes, report)
        report.changed = wishes.store.replace(plan.content, plan.layers, plan.images)
    report.added, report.removed, report.moved = plan.added, plan.removed, plan.moved
    listed = [image for image in plan.content.images.values() if not is_retired(image)]
    report.images = len(listed)
    report.synthesised = sum(image.config_origin == SYNTHESISED for image in listed)
    report.next_due = _next_due(plan.content, wishes.grace, int(time.time()))
    return report


def _prepare(
    current: StoreContent,
    requested: Mapping[str, Sequence[ImageName]],
    wishes: Wishes,
    report: SyncReport,
) -> Plan:
    """Read what there is and plan what the store shall hold."""
    held = held_by(current)
    offers = collect(wishes.repositories, held, wishes.platform, wishes.selection.specs)
    hidden = offers.down.keys() if wishes.hide_outage else offers.forged
    if len(offers.down) == len(wishes.repositories) and not hidden:
        raise next(iter(offers.down.values()))
    report.failed.update(offers.down)
    report.notices = [notice for each in _repositories(offers) for notice in _owner_notices(each)]
    if requested:
        chosen = _requested(offers, requested, wishes.platform, report)
        there = {name: each for name, each in held.items() if each.repository not in offers.forged}
        wanted = {name: each.source for name, each in there.items()}
        wanted.update((o.image.name, o.image.image_id.hex) for o in chosen)
    else:
        chosen, wanted = _selected(offers, hidden, wishes, held, report)
    todo = offers.by_source(_to_resolve(current, chosen, wanted, wishes))
    candidates = _resolve_all(_Layout(wishes), todo, report)
    for source, group in todo.items():
        if source not in candidates:
            _keep_old(wanted, held, group, report)
    if requested:
        # Whoever names an image expects it to be there.
        report.failed.update(report.left_out)
        report.left_out.clear()
    return _plan(current, wanted, candidates, hidden, wishes)


def _plan(
    current: StoreContent,
    wanted: Mapping[ImageName, str],
    candidates: Mapping[str, Candidate],
    hidden: Collection[str],
    wishes: Wishes,
) -> Plan:
    """Plan the next generation. Layers that users still stand on are looked for only when some are
    about to go: past their grace, or in a hidden repository, for pulls must not find them."""
    now = int(time.time())
    useless: set[str] = set()
    for image in current.images.values():
        if image.repository in hidden:
            useless.update(layer.layer_id for layer in chain_of(current, image.top_layer))
    if useless:
        needed = find_needs(current).layers(current)
    else:
        needed = needed_layers(current, now, wishes.grace)
    return make_plan(
        current, wanted, candidates, str(wishes.policy), now, wishes.grace, needed, useless
    )


def _meanings(text: str) -> Sequence[ImageName]:
    """The images that a name may mean to podman here, the best first. Raises InputError."""
    name = parse_name(text)
    if split_domain(text.partition("@")[0])[0] is not None:
        return (name,)
    conf = load_registries_conf()
    return short_name_candidates(text, conf.aliases, conf.search_registries)


def _requested(
    offers: Offers,
    requested: Mapping[str, Sequence[ImageName]],
    platform: Platform,
    report: SyncReport,
) -> list[Offer]:
    """The offers that were asked for by name; what there is none for goes to the report."""
    by_name: dict[ImageName, Offer] = {}
    for offer in offers.offers:
        by_name.setdefault(offer.image.name.canonical, offer)
    others = {each.name.canonical: _other_platform(each, platform) for each in offers.others}
    chosen = []
    for text, names in requested.items():
        found = [by_name[name] for name in names if name in by_name]
        if found:
            chosen.append(found[0])
            continue
        errors: list[PodmanCvmfsError] = [others[name] for name in names if name in others]
        errors += [
            problem.error
            for _, problem in offers.problems
            if any(may_lie_below(name.repository_path, problem.path) for name in names)
        ]
        report.failed[text] = (
            errors[0]
            if errors
            else InputError(
                f"no such image in the repository: {printable(text)}",
                "names are as podman writes them, with their tag: registry/repository:tag",
            )
        )
    return chosen


def _other_platform(image: OtherPlatforms, wanted: Platform) -> OtherPlatformError:
    return OtherPlatformError(
        f"{image.name} is there for {' and '.join(map(str, image.platforms))}, not for {wanted}"
    )


def _selected(
    offers: Offers,
    hidden: Collection[str],
    wishes: Wishes,
    held: Mapping[ImageName, Held],
    report: SyncReport,
) -> tuple[list[Offer], dict[ImageName, str]]:
    """The offers that the store shall hold, and name -> source ID of all it shall hold: with them,
    what can't be read just now in repositories that aren't ``hidden``."""
    chosen = []
    wanted: dict[ImageName, str] = {}
    for offer in offers.offers:
        if offer.image.name not in wanted and wishes.selection.wants(offer.image.name):
            chosen.append(offer)
            wanted[offer.image.name] = offer.image.image_id.hex
    for each in offers.others:
        if each.name not in wanted and wishes.selection.wants(each.name):
            report.left_out[str(each.name)] = _other_platform(each, wishes.platform)
    for root, problem in offers.problems:
        report.failed[problem.path or root] = problem.error
        for name, source in still_held(held, root, problem.path).items():
            wanted.setdefault(name, source)
    for root in offers.down.keys() - hidden:
        for name, source in still_held(held, root).items():
            wanted.setdefault(name, source)
    return chosen, wanted


def _keep_old(
    wanted: dict[ImageName, str],
    held: Mapping[ImageName, Held],
    group: Iterable[Offer],
    report: SyncReport,
) -> None:
    """Let names whose new image can't be done lead to their old one, if they have one; but not
    those of an image that can't run here."""
    for offer in group:
        name = offer.image.name
        if name in held and str(name) not in report.left_out:
            wanted[name] = held[name].source
        else:
            wanted.pop(name, None)


def _to_resolve(
    current: StoreContent,
    chosen: Sequence[Offer],
    wanted: Mapping[ImageName, str],
    wishes: Wishes,
) -> set[str]:
    """The source IDs of images that the store hasn't got, or not right.

    A synthesised config is tried again: the registry, or the repository, may have the genuine one
    by now.
    """
    if current.policy != str(wishes.policy):
        return set(wanted.values())
    present: set[str] = set()
    for image in current.images.values():
        fits = not image.platform or wishes.platform.runs(Platform.parse(image.platform))
        if image.config_origin != SYNTHESISED and fits:
            present |= image.all_sources
    missing = {offer.image.image_id.hex for offer in chosen} - present
    return missing | orphaned_views(current, set(wanted.values()))


class _Layout:
    """Completes images and lays them out."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._registries = RegistryAccess(wishes.registry)
        self._resolvers: dict[str, Resolver | OsgResolver] = {}

    @property
    def silent(self) -> Mapping[str, str]:
        """Registries that left a question unanswered, and why."""
        return self._registries.silent

    def _resolver(self, offer: Offer) -> Resolver | OsgResolver:
        wishes, repository = self._wishes, offer.repository
        if repository.root not in self._resolvers:
            how = (wishes.cache, self._registries, wishes.policy)
            self._resolvers[repository.root] = (
                OsgResolver(repository, *how)
                if isinstance(repository, OsgRepository)
                else Resolver(repository, *how)
            )
        return self._resolvers[repository.root]

    def candidate(self, group: Sequence[Offer]) -> Candidate:
        """Raises RepositoryError for an image that can't be shown right, among them
        OtherPlatformError; StoreError."""
        name = group[0].image.name
        image = self._resolver(group[0]).resolve([offer.image for offer in group])
        if not self._wishes.platform.runs(image.config.platform):
            raise OtherPlatformError(
                f"{name} is for {printable(str(image.config.platform))}, "
                f"not for {self._wishes.platform}"
            )
        try:
            view = view_of(image, self._wishes.policy)
        except RepositoryError as err:
            raise RepositoryError(f"{name}: {err.message}", err.hint) from None
        length = mount_bytes(view, self._wishes.store.path)
        # Only a deep image is worth asking podman for its version.
        limit = mount_data_limit() if length > SHORT_MOUNT_DATA else None
        if limit is not None and length > limit:
            raise RepositoryError(
                f"{name}: podman 4 can't mount its {len(image.layers)} layers: "
                f"{length} bytes of mount options, where {limit} fit",
                "use podman 5, the flat view, or a store with a shorter path",
            )
        return candidate_of(image, view, group[0].repository.root)


def _resolve_all(
    layout: _Layout, todo: Mapping[str, list[Offer]], report: SyncReport
) -> dict[str, Candidate]:
    """Resolve images in parallel; those that fail go to the report."""

    def resolve(group: list[Offer]) -> Candidate | PodmanCvmfsError:
        try:
            return layout.candidate(group)
        except (InputError, StoreError):
            raise  # the settings of registries, or the cache: no fault of this image
        except PodmanCvmfsError as err:
            return err

    candidates = {}
    report.silent = layout.silent
    results = track(_parallel(resolve, todo.values()), len(todo), "Reading images")
    for (source, group), result in zip(todo.items(), results):
        if isinstance(result, Candidate):
            candidates[source] = result
            if result.stored.config_origin == SYNTHESISED:
                for name in (offer.image.name for offer in group):
                    if name.canonical.registry in layout.silent:
                        report.waiting.setdefault(name.canonical.registry, []).append(str(name))
        else:
            kind = report.left_out if isinstance(result, OtherPlatformError) else report.failed
            kind.update({str(offer.image.name): result for offer in group})
    return candidates


def _repositories(offers: Offers) -> list[AnyRepository]:
    return list({offer.repository.root: offer.repository for offer in offers.offers}.values())


def _owner_notices(repository: AnyRepository) -> Iterator[str]:
    """What it means for containers that all files belong to one user, as a CernVM-FS client shows
    them by default: told by the directory that holds the merged roots, or the layers."""
    for name in (".flat", ".layers", ".images"):
        attributes = repository.tree.lstat(name)
        if attributes is None or attributes.st_uid in (0, os.geteuid()):
            continue
        owner = f"the files in {printable(repository.root)} belong to user {attributes.st_uid}"
        if os.geteuid() == 0:
            yield f"{owner}, and so they do in containers"
        else:
            yield (
                f"{owner}: containers can add and remove files but not change those of the image "
                "(to have that too: podman-cvmfs setup --user --overlay fuse-overlayfs)"
            )
        return


def _next_due(content: StoreContent, grace: int, now: int) -> int | None:
    """When the first of what has left the store is past its grace; for what stays longer, since it
    is used, when to look again."""
    times = [layer.retired for layer in content.layers.values() if layer.retired is not None]
    times.extend(content.retired_entries.values())
    dues = [since + grace for since in times]
    return min(due if due > now else now + _LOOK_AGAIN for due in dues) if dues else None


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
