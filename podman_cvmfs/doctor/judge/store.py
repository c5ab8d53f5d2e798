# SPDX-License-Identifier: Apache-2.0
"""Judges additional stores and what ours holds. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from podman_cvmfs.doctor import cures
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts, Place, Presence
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.doctor.judge.access import access, closed_to_user
from podman_cvmfs.doctor.mounting import (
    is_given,
    is_strange,
    layout_used,
    mapped,
    mount_program,
    needs_fuse,
)
from podman_cvmfs.errors import printable
from podman_cvmfs.podman.storage_conf.effective import stores_of_options
from podman_cvmfs.repository.owners import are_foreign
from podman_cvmfs.settings.policy import Overlay, Policy
from podman_cvmfs.store.layout import LOCK_FILES
from podman_cvmfs.util.words import counted
from podman_cvmfs.verify.fault import REMOVE, Kind, Severity

#: If the repository has changed, a store last synced this long ago, in seconds, is stale.
_OLD = 24 * 3600
_CLAIM = "to show the images' own owners, put CVMFS_CLAIM_OWNERSHIP=no in /etc/cvmfs/default.local"
_TOKEN = "head -c 64 /dev/urandom >"


def session(facts: Facts) -> Iterator[Finding]:
    """Missing stores that only this session's STORAGE_OPTS names. This must be cured first."""
    for each in (facts.store, *facts.others):
        if each.presence is Presence.MISSING and _is_of_session(facts, each):
            found = f"{printable(each.path)} isn't there, and STORAGE_OPTS names it"
            yield Finding(CONDITIONS["store-missing"], found, "unset STORAGE_OPTS")


def _is_of_session(facts: Facts, place: Place) -> bool:
    named = stores_of_options(facts.configuration.environment.get("STORAGE_OPTS", ""))
    return place.path in named and place.path in facts.stores


def places(facts: Facts) -> Iterator[Finding]:
    """Whether each store that podman's configuration names is there and can be used."""
    yield from _presence(facts, facts.store, is_ours=True)
    for each in facts.others:
        yield from _presence(facts, each, is_ours=False)
    yield from _twice(facts)


def _presence(facts: Facts, place: Place, is_ours: bool) -> Iterator[Finding]:
    path = printable(place.path)
    if place.presence is Presence.HANGS:
        cure = "mount its file system again, or take it out of storage.conf"
        yield Finding(CONDITIONS["store-hangs"], f"{path} doesn't answer", cure, by_hand=True)
    elif place.presence is Presence.MISSING:
        yield from _missing(facts, place, is_ours)
    elif place.presence is Presence.OTHER:
        cure = f"take {path} out of storage.conf"
        if is_ours:
            cure = "name another path for the store: --store, or store in config.toml"
            if facts.is_configured:
                cure += "; take this one out of storage.conf"
        found = f"{path} is not a directory"
        yield Finding(CONDITIONS["store-not-directory"], found, cure, by_hand=True)
    elif place.presence is Presence.CLOSED:
        if not is_ours or facts.is_configured:
            yield closed_to_user(facts, place)
    else:
        yield from access(facts, place, is_ours)
        # In others' stores root's podman makes the missing files.
        lacking = [name for name in place.lacking if is_ours or name.endswith(".lock")]
        if lacking and (is_ours or not facts.is_root):
            making = (_make_locks(place, lacking), False)
            cure, by_hand = cures.make_store(facts) if is_ours else making
            found = f"{path} has no {', '.join(lacking)}"
            yield Finding(CONDITIONS["store-incomplete"], found, cure, by_hand)
        empty = [lock for lock, size in place.locks.items() if size == 0]
        if empty and facts.engine.major == 4:
            yield Finding(
                CONDITIONS["lock-empty"],
                f"empty: {', '.join(map(printable, empty))}",
                "; ".join(f"{_TOKEN} {cures.shell(lock)}" for lock in empty),
            )


def _missing(facts: Facts, place: Place, is_ours: bool) -> Iterator[Finding]:
    main = printable(facts.configuration.effective.main or "STORAGE_OPTS")
    path = printable(place.path)
    if _is_of_session(facts, place) or (is_ours and not facts.is_configured):
        return
    mkdir = cures.shell("mkdir", "-p", place.path)
    cure, by_hand = cures.make_store(facts) if is_ours else (mkdir, False)
    found = f"{path} isn't there, and {main} names it"
    yield Finding(CONDITIONS["store-missing"], found, cure, by_hand)


def _make_locks(place: Place, names: Sequence[str]) -> str:
    locks = [f"{place.path}/{name}" for name in names]
    directories = dict.fromkeys(os.path.dirname(lock) for lock in locks)
    making = [cures.shell("mkdir", "-p", *directories)]
    return "; ".join([*making, *(f"{_TOKEN} {cures.shell(lock)}" for lock in locks)])


def _twice(facts: Facts) -> Iterator[Finding]:
    known = [facts.store, *facts.others] if facts.is_configured else list(facts.others)
    seen: dict[str, str] = {}
    both: dict[tuple[str, str], list[str]] = {}
    for place in known:
        for name in sorted(place.names):
            if name in seen:
                both.setdefault((seen[name], place.path), []).append(name)
            else:
                seen[name] = place.path
    for (one, other), names in both.items():
        yield Finding(
            CONDITIONS["names-in-two-stores"],
            f"{counted(len(names), 'name')}, such as {printable(names[0])}, "
            f"in {printable(one)} and in {printable(other)}",
            "nothing, or put the store that should win first in additionalimagestores",
            by_hand=True,
        )


def contents(facts: Facts) -> Iterator[Finding]:
    """What a quick look finds wrong in our store."""
    inside = facts.contents
    if facts.store.presence is not Presence.THERE:
        return
    # Locks and rights have conditions of their own.
    told = {*facts.store.closed_at, *facts.store.locks}
    errors = [
        each
        for each in inside.faults
        if each.severity is Severity.ERROR and not _is_told(each.path, told)
    ]
    strange = [each for each in errors if each.kind is Kind.FOREIGN]
    damaged = [each for each in errors if each.kind is not Kind.FOREIGN]
    repair = cures.store_command(facts, "verify", "--repair")
    if inside.problem and not damaged:
        yield Finding(CONDITIONS["store-damaged"], inside.problem, repair)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if damaged[1:] else ""
        found = f"{damaged[0].path} {damaged[0].what}{more}"
        yield Finding(CONDITIONS["store-damaged"], found, repair)
    if strange:
        yield Finding(
            CONDITIONS["store-strange-files"],
            f"files or directories of others: {len(strange)}, such as {strange[0].path}",
            REMOVE,
            by_hand=True,
        )
    leftovers = [each for each in inside.faults if each.kind is Kind.LEFTOVER]
    if leftovers:
        yield Finding(
            CONDITIONS["store-leftovers"],
            f"leftover files or directories: {len(leftovers)}, such as {leftovers[0].path}",
            "nothing: the next sync that changes the store removes it",
            by_hand=True,
        )
    if damaged or inside.problem:
        return
    yield from _images(facts)
    yield from _freshness(facts)


def _is_told(path: str, told: set[str]) -> bool:
    return path in told or path.endswith(tuple(LOCK_FILES))


def _images(facts: Facts) -> Iterator[Finding]:
    counts = facts.contents.counts
    sync = cures.sync(facts)
    if not facts.contents.images:
        yield Finding(
            CONDITIONS["store-empty"], f"no image is in {printable(facts.store.path)}", sync
        )
    if facts.contents.too_deep and facts.engine.major == 4:
        names = facts.contents.too_deep
        yield Finding(
            CONDITIONS["images-too-deep"],
            f"{counted(len(names), 'image')}, such as {printable(names[0])}, with podman "
            f"{facts.engine.version}",
            cures.sync(facts, "--view", "flat"),
        )
    if counts.get("synthesised"):
        found = f"{counted(counts['synthesised'], 'image')} with a made-up config"
        if facts.offline:
            cure = "set offline = false in config.toml, then 'podman-cvmfs sync'; or import a cache"
            yield Finding(CONDITIONS["images-synthesised"], found, cure, by_hand=True)
        else:
            yield Finding(CONDITIONS["images-synthesised"], found, sync)
    if counts.get("rebuilt_manifests"):
        found = f"{counted(counts['rebuilt_manifests'], 'image')} with a rebuilt manifest"
        cure, by_hand = (
            "nothing: the registry had no genuine manifest when it was asked",
            True,
        )
        if counts.get("unanswered_manifests"):
            found += f", {counts['unanswered_manifests']} because the registry didn't answer"
            cure, by_hand = sync, False
        yield Finding(CONDITIONS["manifests-rebuilt"], found, cure, by_hand)
    if counts.get("retired_images"):
        retired = Finding(
            CONDITIONS["images-retired"],
            counted(counts["retired_images"], "image"),
            cures.store_command(facts, "prune"),
        )
        if away := facts.away:
            # A sync may have hidden them.
            retired = replace(
                retired,
                cure=f"{printable(away)} can't be read: cure that, then sync",
                by_hand=True,
                here="a sync shows them again if their repository is back and still has them",
            )
        yield retired


def _freshness(facts: Facts) -> Iterator[Finding]:
    inside = facts.contents
    if not inside.images:
        return
    sync = cures.sync(facts)
    for each in facts.repositories:
        if not each.wished or each.presence is not Presence.THERE or each.problem:
            continue
        path = printable(each.path)
        if each.synced is None:
            found = f"no recorded sync has put everything from {path} into the store"
            yield Finding(CONDITIONS["sync-incomplete"], found, sync)
        elif each.revision is not None and each.synced_revision != each.revision:
            age = facts.now - each.synced
            found = f"{path} is at revision {each.revision}, the store at {each.synced_revision}"
            name = "store-stale" if age > _OLD else "sync-incomplete"
            yield Finding(CONDITIONS[name], found, sync)
    if inside.policy and inside.policy != inside.policy_wanted:
        yield _policy_changed(facts)


def _policy_changed(facts: Facts) -> Finding:
    inside, condition = facts.contents, CONDITIONS["policy-changed"]
    found = (
        f"the store is laid out for '{inside.policy}', but the settings want "
        f"'{inside.policy_wanted}'"
    )
    has, wants = Policy.parse(inside.policy), Policy.parse(inside.policy_wanted)
    used, fuse = layout_used(facts), Overlay.FUSE.value
    if needs_fuse(facts) and used != fuse and fuse in (facts.wanted_overlay, inside.overlay):
        return Finding(condition, found, *cures.use_fuse(facts))
    is_right = used != facts.wanted_overlay and inside.overlay == used
    if is_right and has is not None and wants is not None and has.layout == wants.layout:
        # The store is right, and a sync by the settings would spoil it.
        pairs = (
            ("view", has.view, wants.view),
            ("reuse", has.reuse, wants.reuse),
            ("overlay", has.overlay, wants.overlay),
        )
        lines = [f'{key} = "{one.value}"' for key, one, other in pairs if one is not other]
        cure = f"set {' and '.join(lines)} in {printable(facts.settings_file)}"
        return Finding(condition, f"{found}, podman mounts with {used}", cure, by_hand=True)
    return Finding(condition, found, cures.sync(facts))


def layout(facts: Facts) -> Iterator[Finding]:
    """Whether the store's layout suits the program that mounts it and the owners of the files."""
    inside = facts.contents
    if not inside.images or facts.store.presence is not Presence.THERE:
        return
    program = mount_program(facts)
    used = layout_used(facts)
    if inside.by_layers and inside.overlay and inside.overlay != used:
        found = (
            f"{counted(inside.by_layers, 'image')} laid out for {inside.overlay}, but "
            f"podman mounts with {printable(program or 'the kernel')}"
        )
        by_hand = False
        # podman keeps the program that its storage was first mounted with: no setting changes it.
        is_kept = program and not facts.configuration.effective.options.get("mount_program")
        can_not = not program and not facts.configuration.has_fuse
        if needs_fuse(facts) and not program:
            # With the kernel there would only be another finding.
            cure, by_hand = cures.use_fuse(facts)
            found += cures.fuse_stays(facts)
        elif program and (needs_fuse(facts) or is_given(facts)):
            cure = cures.sync(facts)
            found += cures.fuse_stays(facts)
        elif facts.wanted_overlay == used or is_kept or can_not:
            cure = cures.sync(facts)
        elif program:
            cure = cures.use_kernel(facts)
        else:
            cure = cures.setup(facts, "--overlay", facts.wanted_overlay)
        yield Finding(CONDITIONS["overlay-mismatch"], found, cure, by_hand)
    yield from _namespaces(facts)
    for each in facts.repositories:
        owners = " and ".join(map(str, each.owners))
        found = f"files in {printable(each.path)} belong to user {owners}"
        if facts.is_root:
            if len(each.owners) == 1 and each.owners != (0,):
                yield Finding(CONDITIONS["owner-foreign"], found, _CLAIM, by_hand=True)
        elif are_foreign(each.owners, facts.user.uid) and not program:
            if facts.is_own:
                found += cures.fuse_stays(facts)
                yield Finding(CONDITIONS["owner-kept"], found, *cures.use_fuse(facts))
                yield from _behind(facts)
            else:
                yield Finding(CONDITIONS["owner-unmapped"], found, cures.own_store(facts))


def _namespaces(facts: Facts) -> Iterator[Finding]:
    """Whether containers get a user namespace in which the kernel can't show the store's files as
    they are."""
    wanted = mapped(facts)
    if mount_program(facts) or not wanted:
        return
    found = f"containers get the user namespace {printable(wanted)}, but the kernel mounts layers"
    found += cures.fuse_stays(facts)
    cure = cures.use_fuse(facts)
    if facts.is_root:
        yield Finding(CONDITIONS["userns-fails"], found, *cure)
    elif not is_strange(facts):
        yield Finding(CONDITIONS["userns-copies"], found, *cure)


def _behind(facts: Facts) -> Iterator[Finding]:
    """Whether podman finds images of a user's own store in another store first."""
    order = list(facts.stores)
    if facts.store.path not in order:
        return
    before = order[: order.index(facts.store.path)]
    for each in facts.others:
        common = each.names & facts.store.names
        if each.path in before and common and each.owner != facts.user.uid:
            yield Finding(
                CONDITIONS["own-store-behind"],
                f"{counted(len(common), 'image')}, such as {printable(min(common))}, also in "
                f"{printable(each.path)}, and podman looks there first",
                f"put {printable(facts.store.path)} first in additionalimagestores",
                by_hand=True,
            )
