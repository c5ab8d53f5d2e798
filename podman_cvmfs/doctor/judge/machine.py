# SPDX-License-Identifier: Apache-2.0
"""Judges repositories, disks, systemd's units and users' images. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from podman_cvmfs.doctor import cures
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts, Presence, Repository
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.doctor.mounting import mount_program
from podman_cvmfs.errors import printable
from podman_cvmfs.podman.pause import RESTART
from podman_cvmfs.usage.broken_layers import cure_of

_CVMFS = "/cvmfs/"
#: With this setting the client moves fetched files within one directory of its cache. Such a move
#: takes no lock of the whole file system. In cvmfs 2.12 the setting does nothing else.
_SAME_DIRECTORY = "CVMFS_SERVER_CACHE_MODE=yes"
_TIMER = "podman-cvmfs-sync.timer"
_WATCH = "podman-cvmfs-watch.service"
_SYNC = "podman-cvmfs-sync.service"
#: So many broken images and containers are named.
_SHOWN = 5
#: Bytes and inodes below which a disk is full, and below which it is low.
_NO_SPACE, _LITTLE_SPACE = 16 << 20, 1 << 30
_NO_INODES, _FEW_INODES = 100, 10_000
#: ...but a small file system is low only if this share of it is left.
_SHARE = 0.05


def repositories(facts: Facts) -> Iterator[Finding]:
    """Whether each repository is mounted, answers, and has a known layout."""
    for each in facts.repositories:
        path = printable(each.path)
        if each.presence is Presence.HANGS:
            yield _unmounted(facts, "repository-hangs", f"{path}: {each.problem}", each)
        elif each.presence is Presence.MISSING:
            inside = " inside this container" if facts.in_container else ""
            yield _unmounted(facts, "repository-missing", f"{path} isn't there{inside}", each)
        elif each.presence is Presence.CLOSED:
            found = f"{path} can't be listed by this user"
            cure = cures.shell("chmod", "go+rx", each.path)
            yield Finding(CONDITIONS["repository-closed"], found, cure)
        elif each.problem:
            yield _unmounted(facts, "repository-broken", f"{path}: {each.problem}", each)
        elif each.empty:
            yield _unmounted(facts, "repository-missing", f"{path} is empty", each)
        elif unread := facts.targets.unread.get(each.path, ()):
            found = f"{path}: {each.trouble}; files of {_named(unread)} can't be read"
            yield _unmounted(facts, "repository-broken", found, each)
        elif each.is_offline:
            yield _unmounted(facts, "fetches-fail", f"{path}: {each.trouble}", each)
        elif each.foreign:
            yield Finding(
                CONDITIONS["repository-foreign"],
                f"{path} has neither layers nor merged roots",
                "name another repository (repositories in config.toml)",
                by_hand=True,
            )


def _unmounted(facts: Facts, name: str, found: str, repository: Repository) -> Finding:
    finding = Finding(CONDITIONS[name], found, here=_without_images(facts, repository))
    path = repository.path
    if (repository.problem or repository.trouble) and not repository.is_dead:
        # The client may still serve what is in its cache; another one would begin with an empty
        # mount, or not at all.
        check = "check network, proxy and server"
        if path.startswith(_CVMFS):
            check += f" ({cures.shell('cvmfs_config', 'stat', path[len(_CVMFS) :])})"
        check += "; leave it mounted: containers can use what is cached"
        return replace(finding, cure=check, by_hand=True)
    detach = f"{cures.shell('umount', '--lazy', path)}; " if repository.is_dead else ""
    if facts.in_container and not repository.in_fstab:
        top = _CVMFS.rstrip("/") if path.startswith(_CVMFS) else path
        volume = cures.shell("--volume", f"{top}:{top}:ro,rslave")
        cure = f"on the host: mount it, and start this container with {volume}"
        return replace(finding, cure=cure, by_hand=True)
    if repository.in_fstab:
        return replace(finding, cure=detach + cures.shell("mount", path))
    if path.startswith(_CVMFS):
        if not facts.has_cvmfs:
            cure = "install and set up CernVM-FS's client, or name another repository"
            if repository.synced is not None or path in facts.contents.repositories:
                # It has been there, with a client that isn't in PATH.
                cure = f"mount {printable(path)} again, as it was for the last sync"
            return replace(finding, cure=cure, by_hand=True)
        probe = cures.shell("cvmfs_config", "probe", path[len(_CVMFS) :])
        return replace(finding, cure=detach + probe)
    return replace(finding, cure=f"mount {printable(path)}", by_hand=True)


def _without_images(facts: Facts, repository: Repository) -> str:
    """What the loss of a repository means if the store shows no image of it; else "". The store
    never had one, or hides them while the repository is away (``on_outage``)."""
    inside = facts.contents
    is_known = facts.store.presence is Presence.THERE and not inside.problem
    if not is_known or repository.path in inside.repositories:
        return ""
    return "podman pulls its images, because the store shows none of them"


def targets(facts: Facts) -> Iterator[Finding]:
    """Whether the files of images are there, and podman sees them. If not, containers start all the
    same, on an empty root."""
    if facts.targets.gone:
        found = f"{_named(facts.targets.gone)}: their files have left the repository"
        yield Finding(CONDITIONS["files-gone"], found, cures.sync(facts))
    if facts.targets.hidden:
        yield Finding(
            CONDITIONS["mount-unseen"],
            f"{_named(facts.targets.hidden)}: podman's pause process started before the "
            "repository was mounted and doesn't see it",
            RESTART,
        )


def _named(names: Sequence[str]) -> str:
    more = f", such as {printable(names[0])}"
    return f"{len(names)} names{more}" if len(names) > 1 else printable(names[0])


def stuck(facts: Facts) -> Iterator[Finding]:
    """Running containers that a crashed client has cut off from their image."""
    if facts.stuck:
        more = f" and {len(facts.stuck) - _SHOWN} more" if facts.stuck[_SHOWN:] else ""
        found = f"{', '.join(facts.stuck[:_SHOWN])}{more}: the image's file system doesn't answer"
        restart = "mount the repository, then for each container: podman stop, podman start"
        if not facts.is_root:
            restart = f"mount the repository, then {RESTART}, then podman start for each container"
        yield Finding(CONDITIONS["containers-stuck"], found, restart, by_hand=True)


def clients(facts: Facts) -> Iterator[Finding]:
    """Whether kernel overlayfs and CernVM-FS's client can wait for each other. overlayfs holds the
    rename lock of its file system while it asks the client. Each thread of the client may be
    waiting for that lock, to move a fetched file."""
    for each in facts.clients:
        # Other users may have the kernel mount.
        graphroots = (*(() if mount_program(facts) else each.own), *each.others)
        if each.one_directory or not graphroots:
            continue
        more = f" and {len(graphroots) - 1} more" if graphroots[1:] else ""
        yield Finding(
            CONDITIONS["starts-may-hang"],
            f"CernVM-FS's cache {printable(each.cache)} (for {printable(each.repository)}) is on "
            f"one file system with the graphroot {printable(graphroots[0])}{more}",
            f"put {_SAME_DIRECTORY} in /etc/cvmfs/default.local and run 'cvmfs_config reload'; "
            "or move the cache or the graphroot to another file system",
            by_hand=True,
        )


def cut_off(facts: Facts) -> Iterator[Finding]:
    """Users' images and containers that show only the files of one layer."""
    for graphroot, broken in facts.broken.by_graphroot().items():
        names = ", ".join(map(str, broken[:_SHOWN]))
        more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        is_own = _leads_to(facts.configuration.graphroot, graphroot)
        cure = f"{cure_of(broken)}, then pull or create them again"
        whose = "" if is_own else f"as the owner of {printable(graphroot)}: "
        yield Finding(
            CONDITIONS["images-cut-off"],
            f"{names}{more} in {printable(graphroot)}",
            whose + cure,
            by_hand=True,
        )


def _leads_to(path: str, real: str) -> bool:
    return path != "" and os.path.normpath(path) == real


def disks(facts: Facts) -> Iterator[Finding]:
    """Space and inodes where the store, the cache and podman's own images lie."""
    for disk in facts.disks:
        small = disk.free < _NO_SPACE or (disk.inodes > 0 and disk.free_inodes < _NO_INODES)
        low = (disk.free < _LITTLE_SPACE and disk.free < disk.size * _SHARE) or (
            disk.free_inodes < min(_FEW_INODES, disk.inodes * _SHARE)
        )
        if not small and not low:
            continue
        found = (
            f"{printable(disk.path)} ({disk.what}): {disk.free >> 20} MiB and "
            f"{disk.free_inodes if disk.inodes else 'enough'} inodes are free"
        )
        cure, by_hand = {
            "store": (cures.store_command(facts, "prune"), False),
            "graphroot": ("podman image prune --force", False),
        }.get(disk.what, ("make room there", True))
        yield Finding(CONDITIONS["disk-full" if small else "disk-low"], found, cure, by_hand)


def units(facts: Facts) -> Iterator[Finding]:
    """Whether something syncs the store from time to time."""
    states = facts.units.states
    if not states:
        return
    manager = ["--user"] if not facts.is_root and facts.is_own else []
    active = [name for name in (_TIMER, _WATCH) if _is(states, name, "ActiveState", "active")]
    if not active:
        yield Finding(
            CONDITIONS["sync-off"],
            f"neither {_TIMER} nor {_WATCH} is active",
            cures.shell("systemctl", *manager, "enable", "--now", _TIMER),
        )
    for name in (_SYNC, _WATCH):
        if _is(states, name, "ActiveState", "failed"):
            result = states[name].get("Result", "")
            yield Finding(
                CONDITIONS["sync-failed"],
                f"{name} has failed ({printable(result)})",
                cures.shell("journalctl", *manager, "--unit", name, "--no-pager", "--lines=20"),
            )


def _is(states: Mapping[str, Mapping[str, str]], name: str, key: str, value: str) -> bool:
    return states.get(name, {}).get(key) == value
