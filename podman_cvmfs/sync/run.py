# SPDX-License-Identifier: Apache-2.0
"""Bring a store up to date with repositories: drives reading, resolving, planning and writing."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from podman_cvmfs.errors import printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.plan.layers import distrusted_layers, freed_images, orphaned_views
from podman_cvmfs.plan.make import Candidate, Plan, make_plan
from podman_cvmfs.plan.retirement import Retention, is_retired
from podman_cvmfs.registry.meanings import meanings
from podman_cvmfs.repository.collect import collect
from podman_cvmfs.repository.offers import Offers
from podman_cvmfs.repository.owners import ids_of, strangers_among
from podman_cvmfs.repository.protocol import AnyRepository
from podman_cvmfs.resolve.config import SYNTHESISED
from podman_cvmfs.resolve.manifest import UNANSWERED
from podman_cvmfs.settings.policy import Overlay, Policy, Reuse
from podman_cvmfs.store.records import StoreContent, layers_of
from podman_cvmfs.store.strangers import Stranger
from podman_cvmfs.sync.choose import Choice, choose_requested, choose_selected, keep_old
from podman_cvmfs.sync.complete import resolve_all
from podman_cvmfs.sync.held import held_by, repositories_of
from podman_cvmfs.sync.newly_complete import completed_since
from podman_cvmfs.sync.report import SyncReport
from podman_cvmfs.sync.request import Wishes
from podman_cvmfs.sync.trust import with_trust_of
from podman_cvmfs.usage.needs import Needs, find_needs, needed_layers
from podman_cvmfs.usage.vanished import vanished_layers

#: How often what is used beyond its grace is looked at again, in seconds.
_LOOK_AGAIN = 24 * 3600
#: So many users of a hidden repository's layers are named.
_SHOWN = 5


def sync(wishes: Wishes) -> SyncReport:
    """Make the store offer what ``wishes`` say.

    A store laid out under another policy is laid out anew. An image that can't be done is reported
    in the result and keeps what the store had under its name. Raises RepositoryError if no
    repository can be read, StoreError, or InputError for a malformed name among those requested;
    then the store is as it was.
    """
    requested = {text: meanings(text) for text in wishes.requested}
    wishes = replace(wishes, strangers=strangers_among(wishes.repositories))
    with wishes.store.opened() as current:
        strangers = _keep_others_out(wishes, current)
        if requested:
            wishes = with_trust_of(current, wishes)
        # What was listed and resolved has gone when the store is written: that, too, takes memory.
        plan, report = _prepare(current, requested, wishes)
        changed = wishes.store.replace(plan.content, plan.layers, plan.images, plan.pieces)
        if wishes.policy.shared:
            former = Policy.parse(current.policy)
            was_shared = former is not None and former.shared
            wishes.store.share(plan.content, anew=not was_shared)
    listed = [image for image in plan.content.images.values() if not is_retired(image)]
    return replace(
        report,
        changed=changed,
        warnings=[*report.warnings, *_planted(strangers)],
        added=plan.added,
        removed=plan.removed,
        moved=plan.moved,
        images=len(listed),
        synthesised=sum(image.config_origin == SYNTHESISED for image in listed),
        next_due=_next_due(plan.content, wishes.grace, int(time.time())),
    )


def _prepare(
    current: StoreContent, requested: Mapping[str, Sequence[ImageName]], wishes: Wishes
) -> tuple[Plan, SyncReport]:
    """Read what there is and plan what the store shall hold; the report is of what was found."""
    held = held_by(current)
    offers = collect(
        wishes.repositories, repositories_of(held), wishes.platform, wishes.selection.specs
    )
    hidden = offers.down.keys() if wishes.hide_outage else offers.forged
    if len(offers.down) == len(wishes.repositories) and not hidden:
        raise next(iter(offers.down.values()))
    choice = (
        choose_requested(offers, requested, wishes.platform, held)
        if requested
        else choose_selected(offers, hidden, wishes, held)
    )
    sources = choice.wanted.values()
    gone = _gone(current, offers, hidden, wishes)
    now = int(time.time())
    retention = Retention(now, wishes.grace, needed_layers(current, now, wishes.grace))
    to_resolve = _to_resolve(current, offers, choice, gone, wishes)
    todo = offers.by_source(to_resolve | freed_images(current, sources, retention))
    completed = resolve_all(wishes, todo)
    undone = todo.keys() - completed.candidates.keys()
    failed = {**offers.down, **choice.failed, **completed.failed}
    left_out = {**choice.left_out, **completed.left_out}
    # Other repositories may have the image, too, under other names.
    for offer in choice.offers:
        source = offer.image.image_id.hex
        if source in undone:
            first = str(todo[source][0].image.name)
            kind = left_out if first in left_out else failed
            kind.setdefault(str(offer.image.name), kind[first])
    if requested:
        # Whoever names an image expects it to be there, and nothing else to go.
        failed.update(left_out)
        left_out.clear()
    lacking = (each for each in offers.offers if each.image.image_id.hex in undone)
    wanted = keep_old(choice.wanted, held, lacking, left_out)
    distrusted = distrusted_layers(current, wishes.policy, wishes.policy_of)
    stuck = _stuck(current, hidden, distrusted) - completed.candidates.keys()
    wanted = {name: source for name, source in wanted.items() if source not in stuck}
    plan, warnings = _plan(current, wanted, completed.candidates, hidden, gone, wishes, retention)
    return plan, SyncReport(
        failed=failed,
        left_out=left_out,
        silent=completed.silent,
        waiting=completed.waiting,
        found=choice.found,
        notices=[
            *(notice for each in _repositories(offers) for notice in _owner_notices(each, wishes)),
            *_trust_notices(wishes),
        ],
        warnings=warnings,
    )


def _plan(
    current: StoreContent,
    wanted: Mapping[ImageName, str],
    candidates: Mapping[str, Candidate],
    hidden: Collection[str],
    gone: Collection[str],
    wishes: Wishes,
    retention: Retention,
) -> tuple[Plan, list[str]]:
    """Plan the next generation; the warnings are of what stays in it for its users.

    Layers that users still stand on are looked for only when some are about to go: past their
    grace, or in a hidden repository, or with files that their repository has removed, or of a
    repository whose layers pulls may use no more. Pulls must not find these."""
    sources = set(wanted.values())
    stay = (image for image in current.images.values() if image.all_sources & sources)
    used = {layer.layer_id for image in stay for layer in layers_of(current, image)}
    useless = {layer_id for layer_id, layer in current.layers.items() if layer.repository in hidden}
    for image in current.images.values():
        if image.repository in hidden:
            layers = layers_of(current, image)
            useless.update(layer.layer_id for layer in layers if not layer.repository)
    useless |= distrusted_layers(current, wishes.policy, wishes.policy_of)
    useless |= vanished_layers(wishes.store.path, current, current.layers.keys() - used)
    needs: Needs | None = None
    if useless:
        needs = find_needs(current)
        retention = replace(retention, needed=needs.layers(current), useless=useless)
    order = [os.path.abspath(root) for root in wishes.repositories]
    plan = make_plan(current, wanted, candidates, str(wishes.policy), retention, gone, order)
    if needs is None:
        return plan, []
    return plan, [*needs.obstacles(), *_kept(plan.content, needs, sorted(hidden))]


def _keep_others_out(wishes: Wishes, current: StoreContent) -> Sequence[Stranger]:
    is_old = any(layer.lowers is None for layer in current.layers.values())
    shared = wishes.policy.shared
    return wishes.store.keep_others_out(shared, seize=shared and is_old)


def _planted(strangers: Sequence[Stranger]) -> Iterator[str]:
    for each in strangers[:_SHOWN]:
        yield (
            f"removed {printable(each.path)}, a file of user {each.uid}: containers showed it, and "
            "no sync had put it there"
        )
    if len(strangers) > _SHOWN:
        yield f"removed {len(strangers) - _SHOWN} more files that no sync had put into the store"


def _kept(content: StoreContent, needs: Needs, hidden: Sequence[str]) -> Iterator[str]:
    """Who keeps layers of ``hidden`` repositories in the store, and what that means: podman finds a
    layer by its ID, though no image has it, and asks no registry for it."""
    for root in hidden:
        layers = [layer for layer in content.layers.values() if layer.repository == root]
        found = {user for layer in layers for user in needs.users.get(layer.layer_id, ())}
        if not found:
            continue
        users = [str(user) for user in sorted(found)]
        more = f" and {len(users) - _SHOWN} more" if len(users) > _SHOWN else ""
        yield (
            f"layers of {printable(root)} stay in the store, and pulls of images with these layers "
            f"fail until it is back: {', '.join(users[:_SHOWN])}{more} (to have the images pulled, "
            "remove these containers and images, and sync again)"
        )


def _gone(
    current: StoreContent, offers: Offers, hidden: Collection[str], wishes: Wishes
) -> set[str]:
    """The repositories that layers of the store show files of and shouldn't: they are hidden, or
    none of those to read from any more."""
    known = {each.root for each in _repositories(offers)}
    known.update(map(os.path.abspath, wishes.repositories))
    return ({layer.repository for layer in current.layers.values()} - known - {""}) | {*hidden}


def _stuck(current: StoreContent, hidden: Collection[str], distrusted: Collection[str]) -> set[str]:
    """The source IDs of images that the store can only show with files of ``hidden``
    repositories, or on the layers ``distrusted`` (IDs), which pulls would find."""
    found: set[str] = set()
    for image in current.images.values() if hidden or distrusted else ():
        if any(
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
    wishes: Wishes,
) -> set[str]:
    """The source IDs of images that the store hasn't got, or not right.

    A synthesised config is tried again: the registry, or the repository, may have the genuine one
    by now. So is a manifest that the registry didn't answer for. So is what was published
    by halves.
    """
    if current.policy != str(wishes.policy):
        return set(choice.wanted.values())
    homes = offers.homes()
    present: set[str] = set()
    for image in current.images.values():
        fits = not image.platform or wishes.platform.runs_named(image.platform)
        offered = {homes[source] for source in image.all_sources if source in homes}
        # A repository that is down keeps its images, and their names.
        stays = image.repository in offers.down and image.repository not in gone
        moved = bool(offered) and image.repository not in offered and not stays
        whole = image.config_origin != SYNTHESISED and image.manifest_origin != UNANSWERED
        if whole and fits and not image.outdated and not moved:
            present |= image.all_sources
    # What pulls mustn't find any more is laid out anew.
    distrusted = distrusted_layers(current, wishes.policy, wishes.policy_of)
    present -= _stuck(current, (), distrusted)
    present -= completed_since(current, set(choice.wanted.values()), offers, wishes)
    missing = {offer.image.image_id.hex for offer in choice.offers} - present
    left = _left_behind(current, offers)
    return missing | orphaned_views(current, choice.wanted.values(), gone, left)


def _left_behind(current: StoreContent, offers: Offers) -> set[str]:
    """The source IDs of images that the repository which the store has them from doesn't offer any
    more, though it can be read."""
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


def _owner_notices(repository: AnyRepository, wishes: Wishes) -> Iterator[str]:
    """What it means for containers that all files belong to one other user."""
    ids = ids_of(repository.tree)
    if ids is None or (ids[0] == os.geteuid() and repository.root not in wishes.strangers):
        return
    owner = f"user {ids[0]}" if ids[0] != os.geteuid() else f"group {ids[1]}"
    owner = f"the files in {printable(repository.root)} belong to {owner}"
    if os.geteuid() == 0:
        yield (
            f"{owner}, and so they do in containers; ordinary users need a store of their own "
            "(podman-cvmfs setup --user) or fuse-overlayfs"
        )
        return
    if wishes.policy.overlay is Overlay.KERNEL:
        yield (
            f"{owner}: containers can write in the usual directories, but can't change other files "
            "of the image (to have that too: podman-cvmfs setup --user --overlay fuse-overlayfs)"
        )
    yield (
        f"{owner}, and some are closed to you: pull an image (podman pull IMAGE) before you build "
        "on it or commit a container of it"
    )


def _trust_notices(wishes: Wishes) -> Iterator[str]:
    policy = wishes.policy
    if len(wishes.repositories) > 1 and policy.reuse_from == () and policy.reuse is not Reuse.NONE:
        yield (
            "pulls and builds use no layer of the store, since there are several repositories and "
            "the setting reuse_from names none (name those that you trust)"
        )


def _next_due(content: StoreContent, grace: int, now: int) -> int | None:
    """When the first of what has left the store is past its grace; for what stays longer, since it
    is used, when to look again."""
    times = [layer.retired for layer in content.layers.values() if layer.retired is not None]
    times.extend(content.retired_entries.values())
    dues = [since + grace for since in times]
    return min(due if due > now else now + _LOOK_AGAIN for due in dues) if dues else None
