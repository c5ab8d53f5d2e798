# SPDX-License-Identifier: Apache-2.0
"""Bring a store up to date with repositories: read, resolve, plan, write."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from podman_cvmfs.lists.known import BadListError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.plan.layers import distrusted_layers, freed_images, orphaned_views, refused_layers
from podman_cvmfs.plan.make import Plan, StorableImage, make_plan
from podman_cvmfs.plan.retirement import Retention, is_retired
from podman_cvmfs.podman.features import reads_docker_zstd
from podman_cvmfs.registry.meanings import meanings
from podman_cvmfs.repository.collect import collect
from podman_cvmfs.repository.offers import Offers
from podman_cvmfs.repository.owners import strangers_among
from podman_cvmfs.repository.protocol import AnyRepository
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.resolve.manifest import CONVERTED, UNANSWERED
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.records import StoreContent, layers_of
from podman_cvmfs.store.strangers import Stranger
from podman_cvmfs.sync.choose import Choice, choose_requested, choose_selected, keep_old
from podman_cvmfs.sync.complete import resolve_all
from podman_cvmfs.sync.cut_off import cut_off
from podman_cvmfs.sync.due import next_due
from podman_cvmfs.sync.held import held_by, repositories_of
from podman_cvmfs.sync.newly_complete import completed_since
from podman_cvmfs.sync.newly_listed import listed_since
from podman_cvmfs.sync.notices import (
    exact_notices,
    kept,
    owner_notices,
    place_notices,
    planted,
    still_found,
    trust_notices,
)
from podman_cvmfs.sync.replaced import find_replaced, still_shown, tell
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import SyncRequest
from podman_cvmfs.sync.trust import with_trust_of
from podman_cvmfs.usage.linked import ShownDirectories, in_use
from podman_cvmfs.usage.needs import Needs, find_needs, needed_layers
from podman_cvmfs.usage.vanished import vanished_layers


def sync(request: SyncRequest) -> SyncReport:
    """Make the store offer the images of ``request``.

    If the policy has changed, the store is laid out anew. If an image fails, the report says so,
    and its name keeps its old image. Raises RepositoryError if no repository can be read,
    StoreError, or InputError for a malformed name among those requested; then the store is
    unchanged.
    """
    requested = {text: meanings(text) for text in request.requested}
    request = replace(request, strangers=strangers_among(request.repositories))
    request.cache.require_own()
    shown = ShownDirectories(request.store.path)
    with request.store.opened() as current:
        strangers = _keep_others_out(request, current)
        if requested:
            request = with_trust_of(current, request)
        bad: list[str] = []
        while True:
            # What was listed and resolved has gone when the store is written: that, too, takes
            # memory.
            plan, report = _prepare(current, requested, shown, request)
            try:
                changed = request.store.replace(plan.content, plan.layers, plan.images, plan.pieces)
                break
            except BadListError as err:
                # Its images get another view.
                request.store.lists.leave_out(err.digests)
                bad.append(err.line)
        if request.policy.shared:
            former = Policy.parse(current.policy)
            was_shared = former is not None and former.shared
            request.store.share(plan.content, anew=not was_shared)
    listed = [image for image in plan.content.images.values() if not is_retired(image)]
    return replace(
        report,
        changed=changed,
        warnings=[*report.warnings, *planted(strangers), *bad],
        added=plan.added,
        removed=plan.removed,
        moved=plan.moved,
        images=len(listed),
        synthesised=sum(image.config_origin == SYNTHESISED for image in listed),
        unanswered=sum(image.manifest_origin == UNANSWERED for image in listed),
        next_due=next_due(plan.content, request, int(time.time())),
        shown=shown.all(plan.content, in_use(plan.content)),
    )


def _prepare(
    current: StoreContent,
    requested: Mapping[str, Sequence[ImageName]],
    shown: ShownDirectories,
    request: SyncRequest,
) -> tuple[Plan, SyncReport]:
    """Read the repositories and plan the store; the report has the findings so far."""
    held = held_by(current)
    offers = collect(
        request.repositories, repositories_of(held), request.platform, request.selection.specs
    )
    hidden = offers.down.keys() if request.hide_outage else offers.forged
    if len(offers.down) == len(request.repositories) and not hidden:
        raise next(iter(offers.down.values()))
    choice = (
        choose_requested(offers, requested, request.platform, held, request.selection.refusal)
        if requested
        else choose_selected(offers, hidden, request, held)
    )
    sources = choice.wanted.values()
    gone = _gone(current, offers, hidden, request)
    now = int(time.time())
    retention = Retention(
        now, request.grace, needed_layers(current, now, request.grace, request.graphroots)
    )
    replaced = find_replaced(current, shown, offers.down)
    to_resolve = _to_resolve(current, offers, choice, gone, request)
    to_resolve |= replaced.images & set(sources)
    todo = offers.by_source(to_resolve | freed_images(current, sources, retention))
    completed = resolve_all(request, todo)
    unread: set[str] = set()
    if request.hide_outage:
        completed, unread = cut_off(request, current, completed, offers.down)
    undone = todo.keys() - completed.storable.keys()
    # Whoever names an image is told of the image.
    down = {**offers.down, **({} if requested else completed.down)}
    failed = {**down, **choice.failed, **completed.failed}
    left_out = {**choice.left_out, **completed.left_out}
    # Other repositories may have the image too, under other names.
    for offer in choice.offers:
        source = offer.image.image_id.hex
        if source in undone:
            first = str(todo[source][0].image.name)
            kind = left_out if first in left_out else failed
            if first in kind:
                kind.setdefault(str(offer.image.name), kind[first])
            elif requested:
                outage = completed.down[todo[source][0].repository.root]
                failed.setdefault(str(offer.image.name), outage)
    if requested:
        # A user who names an image expects to get it, and to lose no other one.
        failed.update(left_out)
        left_out.clear()
    lacking = (each for each in offers.offers if each.image.image_id.hex in undone)
    wanted = keep_old(choice.wanted, held, lacking, left_out)
    distrusted = distrusted_layers(current, request.policy, request.policy_of)
    stuck = _stuck(current, hidden, distrusted, unread) | replaced.images
    stuck -= completed.storable.keys()
    of_links = tell(replaced, held, wanted, stuck)
    failed.update(of_links.failed)
    wanted = {name: source for name, source in wanted.items() if source not in stuck}
    away = _Away(hidden, completed.down, unread, replaced.layers)
    plan, of_users = _plan(current, wanted, completed.storable, away, gone, request, retention)
    return plan, SyncReport(
        failed=failed,
        left_out=left_out,
        silent=completed.silent,
        waiting=completed.waiting,
        found=choice.found,
        notices=[
            *completed.notices,
            *(
                notice
                for each in _repositories(offers)
                for notice in (*owner_notices(each, request), *place_notices(each))
            ),
            *trust_notices(request),
            *exact_notices(plan.content, request),
        ],
        warnings=[*of_links.warnings, *of_users],
    )


@dataclass(frozen=True)
class _Away:
    """What can't be read of repositories."""

    #: Repositories of which nothing may be shown.
    hidden: Collection[str]
    #: Repositories whose server has stopped to answer.
    down: Collection[str]
    #: IDs of layers that can't be read, and may not be shown.
    unread: Collection[str]
    #: IDs of layers that are reached over a symbolic link -> the link's path.
    linked: Mapping[str, str]


def _plan(
    current: StoreContent,
    wanted: Mapping[ImageName, str],
    storable: Mapping[str, StorableImage],
    away: _Away,
    gone: Collection[str],
    request: SyncRequest,
    retention: Retention,
) -> tuple[Plan, list[str]]:
    """Plan the next generation; the warnings name layers that stay for their users.

    Layers in use are looked for only if some layers are about to leave. These are past their grace,
    or of a hidden repository, or ``linked``, or their files are gone, or pulls may no longer use
    their repository's layers. Pulls must not find such layers."""
    sources = set(wanted.values())
    stay = (image for image in current.images.values() if image.all_sources & sources)
    used = {layer.layer_id for image in stay for layer in layers_of(current, image)}
    hidden = away.hidden
    useless = {layer_id for layer_id, layer in current.layers.items() if layer.repository in hidden}
    useless.update(away.unread)
    for image in current.images.values():
        if image.repository in hidden:
            layers = layers_of(current, image)
            useless.update(layer.layer_id for layer in layers if not layer.repository)
    useless.update(away.linked)
    refused = refused_layers(current, request.policy_of)
    useless |= refused
    unused = (current.layers[layer_id] for layer_id in current.layers.keys() - used)
    asked = [layer.layer_id for layer in unused if layer.repository not in away.down]
    useless |= vanished_layers(request.store.path, current, asked)
    needs: Needs | None = None
    if useless:
        needs = find_needs(current, request.grace, patterns=request.graphroots)
        retention = replace(retention, needed=needs.layers(current), useless=useless)
    order = [os.path.abspath(root) for root in request.repositories]
    plan = make_plan(current, wanted, storable, str(request.policy), retention, gone, order)
    if needs is None:
        return plan, []
    return plan, [
        *needs.obstacles(),
        *kept(plan.content, needs, sorted(hidden)),
        *still_found(plan.content, needs, refused),
        *still_shown(plan.content, away.linked, needs.users),
    ]


def _keep_others_out(request: SyncRequest, current: StoreContent) -> Sequence[Stranger]:
    is_old = any(layer.lowers is None for layer in current.layers.values())
    shared = request.policy.shared
    return request.store.keep_others_out(shared, seize=shared and is_old)


def _gone(
    current: StoreContent, offers: Offers, hidden: Collection[str], request: SyncRequest
) -> set[str]:
    """The repositories whose files layers of the store must no longer show: they are hidden, or no
    longer in the settings."""
    known = {each.root for each in _repositories(offers)}
    known.update(map(os.path.abspath, request.repositories))
    return ({layer.repository for layer in current.layers.values()} - known - {""}) | {*hidden}


def _stuck(
    current: StoreContent,
    hidden: Collection[str],
    distrusted: Collection[str],
    unread: Collection[str],
) -> set[str]:
    """The source IDs of images that the store can only show with files of ``hidden``
    repositories, or by the layers ``unread`` (IDs), or on the layers ``distrusted``, which pulls
    would find."""
    found: set[str] = set()
    for image in current.images.values() if hidden or distrusted or unread else ():
        if image.top_layer in unread or any(
            layer.repository in hidden or layer.layer_id in distrusted
            for layer in layers_of(current, image)
        ):
            found |= image.all_sources
    return found


def _to_resolve(
    current: StoreContent,
    offers: Offers,
    choice: Choice,
    gone: Collection[str],
    request: SyncRequest,
) -> set[str]:
    """The source IDs of images that the store lacks, or has incomplete.

    A synthesised config is tried again: the registry or the repository may now have the genuine
    one. A manifest without an answer from the registry is tried again too, and so is an image that
    was published incompletely. A converted manifest is no longer needed with a newer podman.
    """
    if current.policy != str(request.policy):
        return set(choice.wanted.values())
    homes = offers.homes()
    # Published for a platform that fits, whatever their configs say.
    fitting = {offer.image.image_id.hex for offer in offers.offers if offer.image.place}
    present: set[str] = set()
    for image in current.images.values():
        fits = (
            not image.platform
            or request.platform.runs_named(image.platform)
            or not fitting.isdisjoint(image.all_sources)
        )
        offered = {homes[source] for source in image.all_sources if source in homes}
        # A repository that is down keeps its images, and their names.
        stays = image.repository in offers.down and image.repository not in gone
        moved = bool(offered) and image.repository not in offered and not stays
        whole = image.config_origin != SYNTHESISED and not _may_improve(image.manifest_origin)
        if whole and fits and not image.outdated and not moved:
            present |= image.all_sources
    # What pulls mustn't find any more is laid out anew.
    distrusted = distrusted_layers(current, request.policy, request.policy_of)
    present -= _stuck(current, (), distrusted, ())
    wanted = set(choice.wanted.values())
    present -= completed_since(current, wanted, offers, request)
    present -= listed_since(current, wanted, request)
    missing = {offer.image.image_id.hex for offer in choice.offers} - present
    left = _left_behind(current, offers)
    return missing | orphaned_views(current, choice.wanted.values(), gone, left)


def _may_improve(manifest_origin: str) -> bool:
    """Whether a better manifest than one of this origin may now be found."""
    return manifest_origin == UNANSWERED or (manifest_origin == CONVERTED and reads_docker_zstd())


def _left_behind(current: StoreContent, offers: Offers) -> set[str]:
    """The source IDs of images whose repository no longer offers them although it can be read."""
    if len(offers.asked) == 1:
        return set()
    offered = {(offer.image.image_id.hex, offer.repository.root) for offer in offers.offers}
    found: set[str] = set()
    for image in current.images.values():
        home = image.repository
        if home not in offers.down and not any((s, home) in offered for s in image.all_sources):
            found |= image.all_sources
    return found


def _repositories(offers: Offers) -> list[AnyRepository]:
    return list({offer.repository.root: offer.repository for offer in offers.offers}.values())
