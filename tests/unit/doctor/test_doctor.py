# SPDX-License-Identifier: Apache-2.0
"""Every condition that doctor knows is found by its name, with its cure, and only where it is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podman_cvmfs.doctor import edits
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import (
    Client,
    Configuration,
    Contents,
    Disk,
    Engine,
    Facts,
    Fault,
    Native,
    Place,
    Presence,
    Registries,
    Repository,
    Units,
    User,
)
from podman_cvmfs.doctor.finding import Level, failure, worst_first
from podman_cvmfs.doctor.judge.judges import judge
from podman_cvmfs.doctor.look import engine
from podman_cvmfs.doctor.look.machine import (
    _end,
    _subordinate,
    look_at_disks,
    look_at_registries,
    look_at_wish_lists,
    read_units,
)
from podman_cvmfs.doctor.look.repository import look_at_repositories
from podman_cvmfs.doctor.look.store import look_at_contents, look_at_place
from podman_cvmfs.podman.storage_conf.effective import Effective
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.reports.sources import target_of
from podman_cvmfs.settings import paths
from podman_cvmfs.settings.files import Settings
from podman_cvmfs.usage.broken_layers import Broken, BrokenUsers
from podman_cvmfs.util.probe import HangingError, bounded
from podman_cvmfs.verify.finding import REMOVE
from tests.support.cli import podman_cvmfs
from tests.support.stores import Spoilt, small_repository

STORE = "/var/lib/podman-cvmfs/store"
REPOSITORY = "/cvmfs/unpacked.cern.ch"
NOW = 1_800_000_000
EFFECTIVE = Effective(
    "/etc/containers/storage.conf",
    ("/etc/containers/storage.conf",),
    False,
    "overlay",
    (STORE,),
    {},
)
CONFIGURATION = Configuration(EFFECTIVE, graphroot="/g", has_graphroot=True)
CONTENTS = Contents(
    counts={"images": 3},
    overlay="kernel",
    policy="1 auto base kernel",
    policy_wanted="1 auto base kernel",
    repositories=(REPOSITORY,),
)
MOUNTED = Repository(REPOSITORY, owners=(0, 1), revision=7, synced=NOW - 60, synced_revision=7)
PLACE = Place(STORE, locks={f"{STORE}/overlay-layers/layers.lock": 64}, owner=0)
ROOT = Facts(
    PLACE,
    now=NOW,
    engine=Engine("4.3.1"),
    configuration=CONFIGURATION,
    contents=CONTENTS,
    repositories=(MOUNTED,),
    has_cvmfs=True,
)
USER = replace(
    ROOT,
    user=User(1000, "u", 65536, 65536),
    store=replace(PLACE, owner=1000),
    repositories=(replace(MOUNTED, owners=(1000,)),),
)

SHARED = replace(ROOT, shared=True, wants_shared=True)
NAMED = replace(ROOT, named_by=("/etc/p.sh",), wants_shared=True)
SETUP = f"podman-cvmfs setup --system --store {STORE}"
SETUP_USER = f"podman-cvmfs setup --user --store {STORE}"
SYNC = f"podman-cvmfs sync --store {STORE}"
USE_FUSE = f"{SETUP} --overlay fuse-overlayfs && {SYNC} --overlay fuse-overlayfs"
USE_FUSE_USER = f"{SETUP_USER} --overlay fuse-overlayfs && {SYNC} --overlay fuse-overlayfs"
RESET = "podman --storage-driver vfs system reset --force"
PRUNE = f"podman-cvmfs prune --store {STORE}"
CONF = "/etc/containers/storage.conf"

BROKEN = (Broken("/g", "container", "c"), Broken("/g", "image", "r/x:1"))


def conf(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(facts, configuration=replace(facts.configuration, **changes))


def options(facts: Facts = ROOT, **changes: str) -> Facts:
    set_in = dict.fromkeys(changes, CONF)
    return conf(facts, effective=replace(EFFECTIVE, options=changes), set_in=set_in)


def contents(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(facts, contents=replace(facts.contents, **changes))


def store(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(facts, store=replace(facts.store, **changes))


def repository(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(facts, repositories=(replace(facts.repositories[0], **changes),))


def other(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(facts, others=(Place(**{"path": "/theirs", **changes}),))


def counts(facts: Facts = ROOT, **changes: int) -> Facts:
    return contents(facts, counts={"images": 3, **changes})


def disk(what: str, free: int, inodes: int) -> Facts:
    return replace(ROOT, disks=(Disk(what, f"/{what}", free, 100 << 30, inodes, 1_000_000),))


def client(facts: Facts = ROOT, **changes: Any) -> Facts:
    return replace(
        facts, clients=(Client(**{"repository": REPOSITORY, "cache": "/cache", **changes}),)
    )


def units(**states: str) -> Facts:
    found: Mapping[str, Mapping[str, str]] = {
        f"podman-cvmfs-{name.replace('_', '.')}": {"ActiveState": state, "Result": "exit-code"}
        for name, state in states.items()
    }
    return replace(ROOT, units=Units(True, found))


# Condition, the facts it is in, part of what is told, the cure (a command, or words after "# ").
TABLE: list[tuple[str, Facts, str, str]] = [
    (
        "podman-broken",
        replace(ROOT, engine=Engine(problem="no podman", hint="get it")),
        "no podman",
        "# get it",
    ),
    (
        "podman-fails",
        replace(ROOT, engine=Engine("4.3.1", failure="boltdb: timeout")),
        "boltdb: timeout",
        "# cure the other errors first",
    ),
    ("podman-old", replace(ROOT, engine=Engine("3.4.4")), "podman 3.4.4", "# install podman 4"),
    (
        "podman-remote",
        conf(environment={"CONTAINER_HOST": "ssh://x"}),
        "ssh://x",
        "unset CONTAINER_HOST",
    ),
    ("podman-slow", counts(images=1001), "1001 images", "# name the images you need"),
    (
        "namespaces-off",
        replace(USER, user=replace(USER.user, namespaces=False)),
        "kernel",
        "sysctl -w user.max_user_namespaces=28633; ",
    ),
    (
        "id-maps-broken",
        replace(USER, user=replace(USER.user, bad_programs=("newuidmap",))),
        "newuidmap",
        "# install the package",
    ),
    (
        "id-maps-missing",
        replace(USER, user=replace(USER.user, subuids=0)),
        "/etc/subuid",
        "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 u",
    ),
    (
        "native-disagrees",
        replace(ROOT, native=Native(version="1.43", graphroot="/g")),
        "additional stores",
        "# if podman's own",
    ),
    (
        "native-missing",
        replace(ROOT, native=Native("require", problem="not here")),
        "not here",
        "# install podman-cvmfs-native",
    ),
    ("settings-unknown", replace(ROOT, warnings=("f:1: unknown setting",)), "f:1", "# correct"),
    (
        "wish-list-broken",
        replace(ROOT, bad_wish_lists={"can't read the wish list /w": "mend it"}),
        "/w",
        "# mend it",
    ),
    ("storage-conf-broken", conf(problem="f:3: bad", hint="correct f"), "f:3", "# correct f"),
    (
        "storage-conf-incomplete",
        conf(lacking={"runroot": "/run/s"}),
        "doesn't set runroot",
        edits.add_to_storage({"runroot": "/run/s"}, CONF),
    ),
    ("storage-conf-append", conf(with_append=(CONF,)), "is 4.3.1", edits.remove_append(CONF)),
    (
        "storage-conf-append",
        conf(replace(ROOT, engine=Engine()), with_append=(CONF,)),
        f"{CONF} has {{append=true}}, and podman doesn't start",
        edits.remove_append(CONF),
    ),
    (
        "driver-not-overlay",
        conf(
            driver="vfs",
            driver_reason=f"{CONF} says so",
            effective=replace(EFFECTIVE, driver="vfs"),
            set_in={"driver": CONF},
        ),
        "vfs",
        f"{edits.set_key('driver', 'overlay', CONF)} && {RESET}",
    ),
    (
        "driver-not-overlay",
        replace(ROOT, engine=Engine("4.3.1", driver="vfs")),
        "its database says so",
        f"{SETUP} && {RESET}",
    ),
    (
        "driver-not-overlay",
        conf(driver="vfs", effective=replace(EFFECTIVE, driver="")),
        "removes all its images",
        f"{RESET}; {SETUP}",
    ),
    (
        "driver-not-overlay",
        conf(driver="vfs", environment={"STORAGE_DRIVER": "vfs"}),
        "vfs",
        "unset STORAGE_DRIVER",
    ),
    (
        "options-replaced",
        conf(replace(ROOT, is_configured=False), dropped_stores=(STORE,)),
        STORE,
        "unset STORAGE_OPTS",
    ),
    ("store-not-configured", replace(ROOT, is_configured=False), CONF, SETUP),
    (
        "store-not-configured",
        conf(
            replace(USER, is_configured=False),
            profile="",
            effective=replace(EFFECTIVE, inherited=True),
        ),
        "takes no stores",
        SETUP_USER,
    ),
    (
        "login-needed",
        conf(
            replace(USER, is_configured=False),
            profile="/etc/profile.d/p.sh",
            effective=replace(EFFECTIVE, inherited=True),
        ),
        "p.sh",
        ". /etc/profile.d/p.sh",
    ),
    (
        "users-cannot-start",
        conf(repository(owners=(999,)), profile="/etc/p.sh"),
        "user 999",
        f"{SETUP} --no-users",
    ),
    (
        "users-unserved",
        conf(repository(SHARED, owners=(1000,)), profile=""),
        "login",
        f"{SETUP} --users",
    ),
    (
        "users-unserved",
        conf(
            repository(SHARED, owners=(1000,)), profile="", effective=replace(EFFECTIVE, driver="")
        ),
        f"{CONF} sets no driver",
        f"{edits.add_to_storage({'driver': 'overlay'}, CONF)} && {SETUP} --users",
    ),
    (
        "store-not-configured",
        store(
            conf(replace(USER, is_configured=False), effective=replace(EFFECTIVE, inherited=True)),
            presence=Presence.CLOSED,
            owner=0,
        ),
        "its owner's alone",
        "podman-cvmfs setup --user && podman-cvmfs sync",
    ),
    ("users-not-reached", replace(ROOT, unreached=("u: own file",)), "u: own file", "# each of"),
    (
        "mount-program-missing",
        conf(options(mount_program="/none"), missing_programs=("/none",)),
        "/none",
        f"{SETUP} --overlay kernel",
    ),
    (
        "fuse-device-closed",
        conf(options(mount_program="/f"), has_fuse=False),
        "/dev/fuse",
        "modprobe fuse; chmod 0666 /dev/fuse",
    ),
    ("fuse-overlayfs-slow", options(mount_program="/f"), "/f", f"{SETUP} --overlay kernel"),
    (
        "fuse-overlayfs-slow",
        options(contents(overlay="fuse-overlayfs"), mount_program="/f"),
        "/f",
        f"{SETUP} --overlay kernel && {SYNC} --overlay kernel",
    ),
    (
        "composefs-unusable",
        options(replace(USER, engine=Engine("5.4.2")), use_composefs="true"),
        "use_composefs",
        edits.comment_out("use_composefs", CONF),
    ),
    (
        "composefs",
        options(replace(ROOT, engine=Engine("5.4.2")), use_composefs="true"),
        "use_composefs",
        edits.comment_out("use_composefs", CONF),
    ),
    (
        "images-cut-off",
        replace(conf(graphroot="/g"), broken=BrokenUsers(BROKEN)),
        "container c, image r/x:1 in /g",
        "# podman rm --force c && podman rmi --force r/x:1, then pull or create them again",
    ),
    (
        "images-cut-off",
        replace(conf(graphroot="/other"), broken=BrokenUsers(BROKEN)),
        "container c, image r/x:1 in /g",
        "# as the owner of /g: podman rm",
    ),
    ("force-mask", options(force_mask="0755"), "force_mask", edits.comment_out("force_mask", CONF)),
    ("store-missing", store(presence=Presence.MISSING), STORE, SETUP),
    ("store-missing", other(presence=Presence.MISSING), "/theirs", "mkdir -p /theirs"),
    (
        "store-not-directory",
        store(replace(ROOT, is_configured=False), presence=Presence.OTHER),
        f"{STORE} is not a directory",
        "# name another path",
    ),
    ("store-not-directory", other(presence=Presence.OTHER), "/theirs", "# take /theirs out"),
    ("store-hangs", other(presence=Presence.HANGS), "/theirs", "# mount again"),
    (
        "store-closed",
        store(USER, presence=Presence.CLOSED, closed_at=("/var",)),
        "/var",
        "chmod go+x /var",
    ),
    (
        "store-closed",
        store(USER, presence=Presence.CLOSED, closed_at=(STORE,), owner=0),
        "root's alone",
        "# as root: podman-cvmfs sync --shared",
    ),
    ("store-closed-to-users", other(closed_at=("/theirs",)), "/theirs", "chmod go+rX /theirs"),
    (
        "store-closed-to-users",
        other(closed_at=("/srv", "/theirs"), by_us=True),
        "/theirs",
        "chmod go+x /srv; podman-cvmfs sync --shared --store /theirs",
    ),
    (
        "users-locked-out",
        store(NAMED, closed_at=(STORE,)),
        f"/etc/p.sh names the store to ordinary users, and closed to them is: {STORE}",
        f"{SYNC} --shared",
    ),
    (
        "users-locked-out",
        store(NAMED, closed_at=("/var", f"{STORE}/overlay-images")),
        "podman-cvmfs setup --no-users",
        f"chmod go+x /var && chmod go+rX {STORE}/overlay-images",
    ),
    ("store-open", store(is_open=True), STORE, SYNC),
    ("store-open", store(USER, is_open=True), STORE, SYNC),
    ("store-incomplete", store(lacking=("overlay-images/images.json",)), "images.json", SETUP),
    (
        "store-incomplete",
        other(USER, lacking=("overlay-images/images.lock",)),
        "images.lock",
        "mkdir -p /theirs/overlay-images; head -c 64 /dev/urandom > /theirs/",
    ),
    (
        "store-not-configured",
        store(replace(ROOT, is_configured=False), presence=Presence.MISSING),
        "the store isn't there",
        SETUP,
    ),
    (
        "store-not-configured",
        store(replace(USER, is_configured=False), presence=Presence.MISSING),
        "the store isn't there",
        "# as root: podman-cvmfs setup --system",
    ),
    (
        "store-missing",
        store(USER, presence=Presence.MISSING),
        STORE,
        "# as root: podman-cvmfs setup --system",
    ),
    (
        "store-incomplete",
        store(USER, lacking=("overlay",)),
        "overlay",
        "# as root: podman-cvmfs setup --system",
    ),
    (
        "lock-empty",
        store(locks={"/s/layers.lock": 0}),
        "/s/layers.lock",
        "head -c 64 /dev/urandom > /s/layers.lock",
    ),
    (
        "store-damaged",
        contents(problem="broken"),
        "broken",
        f"podman-cvmfs verify --store {STORE} --repair",
    ),
    (
        "store-damaged",
        contents(faults=(Fault(True, "/a", "is bad", "mend it"),) * 2),
        "/a is bad (and 1 more)",
        f"podman-cvmfs verify --store {STORE} --repair",
    ),
    ("store-strange-files", contents(faults=(Fault(True, "/a", "is", REMOVE),)), "/a", "# remove"),
    ("store-leftovers", contents(faults=(Fault(False, "/a", "is", ""),)), "/a", "# nothing"),
    ("store-empty", counts(images=0), STORE, SYNC),
    ("store-stale", repository(revision=9, synced=NOW - 2 * 86400), "revision 9", SYNC),
    ("sync-incomplete", repository(synced=None), REPOSITORY, SYNC),
    (
        "sync-incomplete",
        replace(repository(synced=None), given=("--repository", "/r r")),
        REPOSITORY,
        f"{SYNC} --repository '/r r'",
    ),
    ("sync-incomplete", repository(revision=9), "revision 9", SYNC),
    ("policy-changed", contents(policy_wanted="1 flat base kernel"), "flat", SYNC),
    (
        # What podman mounts with is what the store is laid out for: only the settings differ.
        "policy-changed",
        options(
            contents(overlay="fuse-overlayfs", policy="1 layers base fuse-overlayfs", by_layers=2),
            mount_program="/f",
        ),
        "podman mounts with fuse-overlayfs",
        '# set view = "layers" and overlay = "fuse-overlayfs" in /etc/podman-cvmfs/config.toml',
    ),
    (
        "policy-changed",
        replace(
            contents(policy_wanted="1 auto base fuse-overlayfs"), wanted_overlay="fuse-overlayfs"
        ),
        "podman mounts with kernel",
        '# set overlay = "kernel" in /etc/podman-cvmfs/config.toml',
    ),
    (
        "policy-changed",
        contents(repository(USER, owners=(999,)), policy_wanted="1 flat base kernel"),
        "flat",
        SYNC,
    ),
    (
        "policy-changed",
        replace(
            contents(repository(USER, owners=(999,)), policy_wanted="1 auto base fuse-overlayfs"),
            wanted_overlay="fuse-overlayfs",
        ),
        "want '1 auto base fuse",
        USE_FUSE_USER,
    ),
    (
        # Layers are laid out otherwise by now: a sync is due in any case.
        "policy-changed",
        options(
            contents(overlay="fuse-overlayfs", policy="0 auto base fuse-overlayfs"),
            mount_program="/f",
        ),
        "'0 auto",
        f"{SYNC} --overlay fuse-overlayfs",
    ),
    (
        "overlay-mismatch",
        options(contents(by_layers=2), mount_program="/f"),
        "2 images",
        f"{SETUP} --overlay kernel",
    ),
    (
        "overlay-mismatch",
        replace(
            contents(by_layers=2), engine=replace(ROOT.engine, mount_program="/fuse-overlayfs")
        ),
        "2 images",
        f"{SYNC} --overlay fuse-overlayfs",
    ),
    (
        "overlay-mismatch",
        # Here the kernel won't do.
        options(conf(contents(by_layers=2), userns="keep-id"), mount_program="/f"),
        'lasts with overlay = "fuse-overlayfs" in /etc/podman-cvmfs/config.toml',
        f"{SYNC} --overlay fuse-overlayfs",
    ),
    ("overlay-mismatch", contents(by_layers=2, overlay="fuse-overlayfs"), "2 images", SYNC),
    (
        "owner-unmapped",
        store(repository(USER, owners=(0,)), owner=0),
        "user 0",
        "podman-cvmfs setup --user && podman-cvmfs sync",
    ),
    (
        "own-store-behind",
        other(
            conf(
                store(repository(USER, owners=(999,)), names=frozenset("ab")),
                effective=replace(EFFECTIVE, stores=("/theirs", STORE)),
            ),
            names=frozenset("bc"),
            owner=0,
        ),
        "such as b",
        f"# put {STORE} first",
    ),
    ("owner-kept", repository(USER, owners=(999,)), "999", USE_FUSE_USER),
    ("owner-kept", repository(USER, owners=(999,)), 'overlay = "fuse-', USE_FUSE_USER),
    ("userns-fails", conf(userns="auto"), "auto", USE_FUSE),
    (
        "userns-fails",
        conf(repository(USER, owners=(999,)), userns="keep-id:uid=5"),
        "keep-id",
        USE_FUSE_USER,
    ),
    ("userns-copies", conf(USER, userns="keep-id"), "keep-id", USE_FUSE_USER),
    (
        "userns-copies",
        conf(store(USER, owner=0), userns="keep-id"),
        "keep-id",
        (
            "podman-cvmfs setup --user --overlay fuse-overlayfs && "
            "podman-cvmfs sync --overlay fuse-overlayfs"
        ),
    ),
    ("owner-foreign", repository(owners=(999,)), "999", "# for the images'"),
    ("images-too-deep", contents(too_deep=("a.org/b:1",)), "a.org/b:1", f"{SYNC} --view flat"),
    ("images-synthesised", counts(synthesised=2), "2 images", SYNC),
    (
        "images-synthesised",
        replace(counts(synthesised=2), offline=True),
        "2 images",
        "# set offline = false",
    ),
    ("manifests-rebuilt", counts(rebuilt_manifests=2), "2 images", "# nothing"),
    (
        "manifests-rebuilt",
        counts(rebuilt_manifests=2, unanswered_manifests=1),
        "2 images have a rebuilt manifest, 1 since",
        SYNC,
    ),
    ("images-retired", counts(retired_images=2), "2 images", PRUNE),
    (
        "names-in-two-stores",
        other(store(names=frozenset("ab")), names=frozenset("bc")),
        "1 names, such as b",
        "# nothing",
    ),
    ("disk-full", disk("store", 1 << 20, 1_000_000), "/store (store): 1 MiB", PRUNE),
    ("disk-full", disk("cache", 50 << 30, 10), "10 inodes", "# make room"),
    ("disk-low", disk("graphroot", 512 << 20, 1_000_000), "512 MiB", "podman image prune --force"),
    (
        "sync-off",
        units(sync_timer="inactive"),
        "neither",
        "systemctl enable --now podman-cvmfs-sync.timer",
    ),
    (
        "sync-failed",
        units(sync_timer="active", sync_service="failed"),
        "exit-code",
        "journalctl --unit podman-cvmfs-sync.service --no-pager --lines=20",
    ),
    (
        "repository-missing",
        repository(presence=Presence.MISSING),
        REPOSITORY,
        "cvmfs_config probe unpacked.cern.ch",
    ),
    ("repository-missing", repository(empty=True, in_fstab=True), "empty", f"mount {REPOSITORY}"),
    (
        "repository-missing",
        replace(repository(empty=True), has_cvmfs=False),
        "empty",
        "# install and set up CernVM-FS",
    ),
    ("repository-missing", repository(path="/srv/x", empty=True), "empty", "# mount /srv/x"),
    (
        "repository-hangs",
        repository(presence=Presence.HANGS, problem="no answer"),
        "no answer",
        f"umount --lazy {REPOSITORY}; cvmfs_config probe unpacked.cern.ch",
    ),
    (
        "repository-broken",
        repository(problem="I/O error", in_fstab=True),
        "I/O error",
        f"umount --lazy {REPOSITORY}; mount {REPOSITORY}",
    ),
    (
        "repository-closed",
        repository(presence=Presence.CLOSED),
        REPOSITORY,
        f"chmod go+rx {REPOSITORY}",
    ),
    (
        "starts-may-hang",
        client(own=("/g",), others=("/h/a", "/h/b")),
        f"/cache (for {REPOSITORY}) is on one file system with the graphroot /g and 2 more",
        "# put CVMFS_SERVER_CACHE_MODE=yes in /etc/cvmfs/default.local and run 'cvmfs_config ",
    ),
    (
        # Other users' podman may mount otherwise than root's.
        "starts-may-hang",
        options(client(own=("/g",), others=("/h",)), mount_program="/f"),
        "the graphroot /h",
        "# put CVMFS_SERVER_CACHE_MODE=yes",
    ),
    ("repository-foreign", repository(foreign=True), REPOSITORY, "# name another"),
    (
        "registries-conf-broken",
        replace(ROOT, registries=Registries("f:1: bad", "mend")),
        "f:1",
        "# mend",
    ),
    (
        "registry-blocked",
        replace(ROOT, registries=Registries(blocked={"a.org/b:1": "a.org"})),
        "a.org/b:1",
        "# nothing",
    ),
]


@pytest.mark.parametrize(("name", "facts", "told", "cure"), TABLE)
def test_condition(name: str, facts: Facts, told: str, cure: str) -> None:
    found = {each.condition.name: each for each in judge(facts)}
    assert name in found, sorted(found)
    finding = found[name]
    assert told in finding.found
    assert finding.by_hand == cure.startswith("# ")
    assert finding.cure.startswith(cure[2:]) if finding.by_hand else cure in finding.cure
    # One thing is wrong: no error follows from it that isn't one.
    assert {n for n, each in found.items() if each.condition.level is Level.ERROR} <= {name}


def test_every_condition_is_in_the_table() -> None:
    assert {name for name, *_ in TABLE} == set(CONDITIONS)


@pytest.mark.parametrize(
    "facts",
    [conf(contents(by_layers=2), userns="keep-id"), contents(repository(USER, owners=(999,)))],
    ids=["namespace", "strange files"],
)
@pytest.mark.parametrize("laid_out", ["kernel", "fuse-overlayfs"])
def test_no_cure_takes_fuse_overlayfs_away_where_it_is_needed(facts: Facts, laid_out: str) -> None:
    facts = contents(facts, overlay=laid_out, by_layers=2)
    for used in ({}, {"mount_program": "/f"}):
        for each in judge(options(facts, **used)):
            assert "kernel" not in each.cure, each
    assert judge(options(contents(facts, overlay="fuse-overlayfs"), mount_program="/f")) == []


@pytest.mark.parametrize(
    "facts",
    [
        client(),
        client(one_directory=True, own=("/g",), others=("/h",)),
        options(client(own=("/g",)), mount_program="/f"),
    ],
    ids=["another file system", "one directory", "fuse-overlayfs"],
)
def test_starts_that_cannot_hang(facts: Facts) -> None:
    assert "starts-may-hang" not in {each.condition.name for each in judge(facts)}


_PRIVATE = store(closed_at=(STORE,))
_HEALTHY = {
    "root": ROOT,
    "user": USER,
    "root alone": _PRIVATE,
    "shared": store(SHARED, is_open=True),
    "named": store(NAMED, is_open=True),
    # Nobody gets to it.
    "open in a closed directory": store(is_open=True, closed_at=("/var",)),
    "root's, seen by a user": store(USER, is_open=True, owner=0),
}


@pytest.mark.parametrize("facts", _HEALTHY.values(), ids=_HEALTHY)
def test_the_healthy(facts: Facts) -> None:
    assert judge(facts) == []
    assert failure([]) is None


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (replace(ROOT, engine=Engine(problem="none")), 1),
        (replace(ROOT, is_configured=False), 3),
        (repository(presence=Presence.MISSING), 4),
        (other(presence=Presence.MISSING), 5),
        (replace(ROOT, registries=Registries("bad")), 6),
        (counts(images=0), 7),
        (counts(retired_images=1), None),
        # Of several the first counts: what is to be cured first.
        (other(replace(ROOT, is_configured=False), presence=Presence.MISSING), 3),
    ],
)
def test_exit_code(facts: Facts, code: int | None) -> None:
    error = failure(judge(facts))
    assert (None if error is None else error.exit_code) == code


def test_a_session_older_than_the_end_of_its_store() -> None:
    """What a set-up that was undone since has told a session of comes before all else."""
    gone = Place("/gone", Presence.MISSING)
    session = {"STORAGE_OPTS": "overlay.imagestore=/gone"}
    effective = replace(EFFECTIVE, inherited=True, stores=("/gone",))
    facts = conf(USER, effective=effective, environment=session, profile="/etc/profile.d/p.sh")
    found = judge(replace(facts, is_configured=False, others=(gone,)))
    assert [(each.condition.name, each.cure) for each in found[:2]] == [
        ("store-missing", "unset STORAGE_OPTS"),
        ("login-needed", ". /etc/profile.d/p.sh"),
    ]
    (only,) = judge(replace(facts, store=replace(gone, owner=0)))
    assert (only.condition.name, only.cure) == ("store-missing", "unset STORAGE_OPTS")


@pytest.mark.parametrize(
    ("facts", "means"),
    [
        (repository(presence=Presence.MISSING), "containers of its images don't start, nor "),
        (repository(contents(repositories=()), presence=Presence.MISSING), "its images are pulled"),
        (
            repository(contents(problem="?", repositories=()), presence=Presence.MISSING),
            "containers of its images don't start",
        ),
        (repository(contents(repositories=("/o",)), problem="I/O"), "its images are pulled"),
    ],
)
def test_what_the_loss_of_a_repository_means(facts: Facts, means: str) -> None:
    (found,) = (each for each in judge(facts) if each.condition.name.startswith("repository-"))
    assert found.means.startswith(means)


def test_the_worst_comes_first() -> None:
    facts = counts(repository(presence=Presence.MISSING), images=0, retired_images=1)
    levels = [each.condition.level for each in worst_first(judge(facts))]
    assert levels == [Level.ERROR, Level.WARNING, Level.NOTE]


# ---------------------------------------------------------------------- what looks


def test_bounded_gives_answers_and_errors() -> None:
    assert bounded(lambda: {"a": [1]}, 10) == {"a": [1]}
    with pytest.raises(FileNotFoundError):
        bounded(lambda: os.listdir("/none"), 10)
    with pytest.raises(OSError, match="has died"):
        bounded(lambda: os.kill(os.getpid(), signal.SIGKILL), 10)


def test_bounded_waits_no_longer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    start = time.monotonic()
    with pytest.raises(HangingError):
        bounded(fifo.read_bytes, 0.2)
    assert time.monotonic() - start < 5


def test_units_that_are_installed() -> None:
    text = (
        "Id=podman-cvmfs-sync.timer\nLoadState=loaded\nActiveState=active\n\n"
        "Id=podman-cvmfs-watch.service\nLoadState=not-found\nActiveState=inactive\n"
    )
    found = read_units(text)
    assert found.known and list(found.states) == ["podman-cvmfs-sync.timer"]
    assert judge(replace(ROOT, units=found)) == []


@pytest.fixture
def spoilt(tmp_path: Path) -> Spoilt:
    return Spoilt(small_repository(tmp_path / "repository"), tmp_path)


def test_good_store_and_repository(spoilt: Spoilt) -> None:
    place = look_at_place(str(spoilt.path), 10)
    assert place.presence is Presence.THERE
    assert (place.lacking, set(place.locks.values()), place.owner) == ((), {64}, os.geteuid())
    assert place.names >= set(spoilt.content.names)
    found = look_at_contents(str(spoilt.path), "1 auto base kernel", 60)
    assert (found.problem, found.faults, found.images) == ("", (), 3)
    assert (found.overlay, found.repositories) == ("kernel", (str(spoilt.repository),))
    settings = Settings((str(spoilt.repository),), store=str(spoilt.path), cache="/none")
    (repository,) = look_at_repositories(settings, found.repositories, 10)
    assert repository.presence is Presence.THERE
    assert (repository.empty, repository.foreign) == (False, False)
    assert repository.owners == (os.geteuid(),)


def test_spoilt_store(spoilt: Spoilt) -> None:
    os.truncate(spoilt.path / "overlay-layers/layers.lock", 0)
    spoilt.image_path("config").unlink()
    (spoilt.path / "overlay-images/images.lock").unlink()
    place = look_at_place(str(spoilt.path), 10)
    assert place.lacking == ("overlay-images/images.lock",)
    assert set(place.locks.values()) == {0}
    assert any(each.is_error for each in look_at_contents(str(spoilt.path), "", 60).faults)
    (spoilt.generation / "state.json").write_text("{")
    assert "state.json" in look_at_contents(str(spoilt.path), "", 60).problem


def test_closed_store(spoilt: Spoilt) -> None:
    spoilt.path.chmod(0o700)
    assert str(spoilt.path) in look_at_place(str(spoilt.path), 10).closed_at


def test_store_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert look_at_place(str(path), 10).presence is Presence.OTHER
    done = podman_cvmfs("doctor", "--store", path)
    assert "store-not-directory" in done.stdout
    assert "--store " + str(path) not in done.stdout and "chmod" not in done.stdout


def test_store_that_is_not_there(tmp_path: Path) -> None:
    assert look_at_place(str(tmp_path / "none"), 10).presence is Presence.MISSING


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, {"presence": Presence.MISSING}),
        (lambda path: path.mkdir(), {"empty": True}),
        (lambda path: (path / "other").mkdir(parents=True), {"empty": False, "foreign": True}),
        (lambda path: path.write_text(""), {"problem": "Not a directory"}),
    ],
)
def test_bad_repository(tmp_path: Path, make: Any, expected: dict[str, object]) -> None:
    path = tmp_path / "repository"
    make(path)
    (found,) = look_at_repositories(Settings((str(path),)), (), 10)
    assert {name: getattr(found, name) for name in expected} == expected


# ---------------------------------------------------------------------- the machine


def test_subordinate_ids(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text("u:100000:65536\n1000:300000:10\nother:1:1\nbroken\nu:x:y\n")
    assert _subordinate(str(path), "u", 1000) == 65546
    assert _subordinate(str(path), "nobody", 1) == 0
    assert _subordinate(str(tmp_path / "none"), "u", 1000) == 0
    assert _end(str(path)) == 300010
    assert _end(str(tmp_path / "none")) == 0


def test_disks(tmp_path: Path) -> None:
    (disk,) = look_at_disks({"store": str(tmp_path / "not/made/yet")}, 10)
    assert (disk.what, disk.path) == ("store", str(tmp_path))
    assert 0 < disk.free <= disk.size


def test_wish_lists_that_a_sync_refuses(tmp_path: Path) -> None:
    for name, text in {"good": "a.org/b:1\n", "empty": "# none\n", "x.yaml": "x: 1\n"}.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "hangs")
    names = ("good", "none", "empty", "x.yaml", "hangs")
    found = look_at_wish_lists([f"{tmp_path}/{each}" for each in names], 1)
    assert [str(tmp_path / each) in text for each, text in zip(names[1:], found)] == [True] * 4
    assert look_at_wish_lists([str(tmp_path / "good")], 10) == {}


def test_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    path.write_text('[[registry]]\nlocation = "bad.org"\nblocked = true\n')
    found = look_at_registries(["good.org/a:1", "bad.org/b:1", "no name at all!"])
    assert set(found.blocked) == {"bad.org/b:1"}
    path.write_text("[[registry]\n")
    assert str(path) in look_at_registries([]).problem


@pytest.mark.parametrize(
    ("uid", "own", "system", "for_user", "named", "expected"),
    [
        (0, False, False, None, False, "own"),
        (1000, True, True, None, False, "own"),
        (1000, False, True, None, False, "system"),
        (1000, False, False, None, False, "own"),
        (1000, True, True, False, False, "system"),
        (1000, False, True, True, False, "own"),
        (1000, False, True, None, True, "own"),
    ],
)
def test_which_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    own: bool,
    system: bool,
    for_user: bool | None,
    named: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(paths, "SYSTEM_STORE", str(tmp_path / "system"))
    for name, there in (("own", own), ("system", system)):
        if there:
            (tmp_path / name).mkdir()
    sources = {"store": "command line"} if named else {}
    settings = Settings(store=str(tmp_path / "own"), cache="/c", sources=sources)
    found = target_of(settings, for_user)
    assert found.store == str(tmp_path / expected)
    assert found.cache == (paths.SYSTEM_CACHE if expected == "system" else "/c")


def test_what_people_read(spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("offline = true\nunknown = 1\n")
    (tmp_path / "storage.conf").write_text(
        '[storage]\ndriver = "overlay"\nrunroot = "/tmp/r"\ngraphroot = "/none"\n'
        f'[storage.options]\nadditionalimagestores = ["{spoilt.path}", "/none/\\u001b[31m"]\n'
    )
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    places = ("--store", spoilt.path, "--repository", spoilt.repository)
    done = podman_cvmfs("doctor", *places)
    assert done.returncode == 5, done.stderr
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    store = next(line for line in lines if line.startswith("store "))
    assert store.endswith(f"{spoilt.path}: there, 3 images, podman uses it")
    first = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    assert lines[first].startswith("error: store-missing: /none/\\x1b[31m isn't there, and ")
    assert lines[first + 1].startswith("  means: every podman command fails")
    assert lines[first + 2] == r"  cure: mkdir -p '/none/\x1b[31m'"
    assert any(line.startswith("warning: settings-unknown: ") for line in lines)
    assert "error: 1 errors, first of all store-missing" in done.stderr


def test_what_an_unknown_podman_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "storage.conf"
    path.write_text('[storage.options]\nadditionalimagestores = ["/a", {append=true}]\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path))
    (tmp_path / "podman").touch(mode=0o755)
    for version, bin_path, expected in (
        ("4.3.1", tmp_path, (str(path),)),
        # It may fail for just that.
        ("", tmp_path, (str(path),)),
        ("", "/none", ()),
    ):
        monkeypatch.setenv("PATH", str(bin_path))
        found = engine.look_at_configuration(Generation(version, False, False), STORE)
        assert found.with_append == expected, (version, bin_path)


def test_the_variables_that_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in engine.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "storage.conf"
    path.write_text(f'[storage.options]\nadditionalimagestores = ["{STORE}", {{append=true}}]\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF_OVERRIDE", str(path))
    found = engine.look_at_configuration(Generation("6.0.0", True, True), STORE)
    assert found.environment == {"CONTAINERS_STORAGE_CONF_OVERRIDE": str(path)}
    assert STORE in found.effective.stores


def test_the_library_resolves_links(tmp_path: Path) -> None:
    """A home directory that is a link to where passwd(5) has it."""
    (tmp_path / "nfs/ann").mkdir(parents=True)
    (tmp_path / "ann").symlink_to("nfs/ann")
    here, there = (f"{tmp_path}/{each}" for each in ("ann", "nfs/ann"))
    effective = replace(EFFECTIVE, stores=(f"{here}/store", "/other"))
    configuration = replace(CONFIGURATION, effective=effective, graphroot=f"{here}/storage")
    theirs = Native(
        version="1.43", graphroot=f"{there}/storage", stores=(f"{there}/store", "/elsewhere")
    )
    found = engine.as_spelt(theirs, configuration)
    assert (found.graphroot, found.stores) == (f"{here}/storage", (f"{here}/store", "/elsewhere"))
    stores = (f"{there}/store", "/other")
    agreed = engine.as_spelt(replace(theirs, stores=stores), configuration)
    assert judge(replace(ROOT, configuration=configuration, native=agreed)) == []


def test_storage_remembers_its_mount_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/fuse-overlayfs"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "overlay").mkdir()
    assert engine._remembered_program(str(tmp_path)) == ""
    for text, found in (("false", ""), ("true", str(program))):
        (tmp_path / "overlay/.has-mount-program").write_text(text)
        assert engine._remembered_program(str(tmp_path)) == found
