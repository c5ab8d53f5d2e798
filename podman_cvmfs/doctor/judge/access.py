# SPDX-License-Identifier: Apache-2.0
"""Judges who can read the additional stores, and who should. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.doctor import cures
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts, Place, Presence
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.errors import printable
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.advice import on_store


def access(facts: Facts, place: Place, is_ours: bool) -> Iterator[Finding]:
    """Whether the right users can read a store."""
    path = printable(place.path)
    if not facts.is_root and place.closed_at:
        yield closed_to_user(facts, place)
    elif not is_ours and place.closed_at:
        yield _closed(place, "store-closed-to-users")
    elif place.closed_at and facts.named_by:
        yield _locked_out(facts)
    owners_alone = is_ours and facts.is_own and not facts.wants_shared
    if owners_alone and place.is_open and not _split(place)[0]:
        found = f"{path} is open to other users"
        yield Finding(CONDITIONS["store-open"], found, cures.sync(facts))


def _split(place: Place) -> tuple[list[str], list[str]]:
    """The closed directories above a store, and its own."""
    closed = place.closed_at or (place.path,) * (place.presence is Presence.CLOSED)
    own = [each for each in closed if each.startswith((place.path, place.real or place.path))]
    return [each for each in closed if each not in own], own


def _closed(place: Place, name: str) -> Finding:
    above, own = _split(place)
    # Others need to pass what lies above the store, not to list it.
    commands = [cures.shell("chmod", "go+x", *above)] if above else []
    if own and place.by_us:
        # Its directories have the modes of images: others could write in them.
        commands.append(on_store(place.path, "sync", "--shared"))
    elif own:
        commands.append(cures.shell("chmod", "go+rX", *own))
    return Finding(
        CONDITIONS[name],
        f"only the owner can read: {', '.join(map(printable, [*above, *own]))}",
        "; ".join(commands),
    )


def closed_to_user(facts: Facts, place: Place) -> Finding:
    """A store that podman's configuration names and this ordinary user can't read. The cure depends
    on its owner."""
    if place.owner == facts.user.uid or place.path != paths.SYSTEM_STORE:
        return _closed(place, "store-closed")
    found = f"{printable(place.path)} is root's alone, but podman's configuration names it"
    cure = "as root: podman-cvmfs sync --shared, or podman-cvmfs setup --no-users"
    return Finding(CONDITIONS["store-closed"], found, cure, by_hand=True)


def _locked_out(facts: Facts) -> Finding:
    """Ordinary users' configuration names our store, but they can't read it."""
    above, own = _split(facts.store)
    files = printable(" and ".join(facts.named_by))
    closed = ", ".join(map(printable, [*above, *own]))
    found = (
        f"{files} names the store to ordinary users, but they can't read {closed} "
        "('podman-cvmfs setup --no-users' takes the store from them instead)"
    )
    # A sync opens the store itself. Directories above it must be opened by hand.
    inside = [each for each in own if each not in (facts.store.path, facts.store.real)]
    commands = [cures.shell("chmod", "go+x", *above)] if above else []
    commands += [cures.shell("chmod", "go+rX", *inside)] if inside else []
    commands += [cures.sync(facts, "--shared")] if len(own) > len(inside) else []
    return Finding(CONDITIONS["users-locked-out"], found, " && ".join(commands))
