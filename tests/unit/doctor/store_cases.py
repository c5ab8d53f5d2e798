# SPDX-License-Identifier: Apache-2.0
"""Conditions of stores, disks and syncs."""

from __future__ import annotations

from dataclasses import replace

from podman_cvmfs.doctor.facts import Presence
from podman_cvmfs.podman.composefs import NAIVE_DIFF_OFF
from tests.support.doctor_facts import (
    DAMAGED,
    EFFECTIVE,
    FOREIGN,
    LEFTOVER,
    NAMED,
    NOW,
    PRUNE,
    REPOSITORY,
    ROOT,
    SETUP,
    STORE,
    SYNC,
    USE_FUSE,
    USE_FUSE_USER,
    USER,
    Case,
    conf,
    contents,
    counts,
    disk,
    options,
    other,
    repository,
    store,
    units,
)

STORE_CASES: list[Case] = [
    ("store-missing", store(presence=Presence.MISSING), STORE, SETUP),
    ("store-missing", other(presence=Presence.MISSING), "/theirs", "mkdir -p /theirs"),
    (
        "store-not-directory",
        store(replace(ROOT, is_configured=False), presence=Presence.OTHER),
        f"{STORE} is not a directory",
        "# name another path",
    ),
    ("store-not-directory", other(presence=Presence.OTHER), "/theirs", "# take /theirs out"),
    ("store-hangs", other(presence=Presence.HANGS), "/theirs", "# mount its file system again"),
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
        f"/etc/p.sh names the store to ordinary users, but they can't read {STORE}",
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
        contents(faults=(DAMAGED,) * 2),
        "/a is bad (and 1 more)",
        f"podman-cvmfs verify --store {STORE} --repair",
    ),
    ("store-strange-files", contents(faults=(FOREIGN,)), "/a", "# remove"),
    ("store-leftovers", contents(faults=(LEFTOVER,)), "/a", "# nothing"),
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
        'cure last, put overlay = "fuse-overlayfs" into /etc/podman-cvmfs/config.toml',
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
    ("owner-foreign", repository(owners=(999,)), "999", "# to show the images'"),
    (
        "exact-loses-data",
        replace(contents(exact=2), not_exact=NAIVE_DIFF_OFF),
        "2 images",
        f"{SETUP} --exact",
    ),
    (
        "exact-loses-data",
        replace(contents(), left_exact=("box",), not_exact=NAIVE_DIFF_OFF),
        "1 container or image, such as box,",
        f"{SETUP} --exact",
    ),
    (
        "exact-loses-data",
        replace(contents(exact=1), not_exact=f"in sessions without X, {NAIVE_DIFF_OFF}"),
        "in sessions without X",
        SYNC,
    ),
    (
        "exact-unusable",
        replace(contents(exact=1), not_exact="podman 5.3 is older than 5.4"),
        "podman 5.3",
        SYNC,
    ),
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
        "2 images with a rebuilt manifest, 1 because",
        SYNC,
    ),
    ("images-retired", counts(retired_images=2), "2 images", PRUNE),
    (
        "names-in-two-stores",
        other(store(names=frozenset("ab")), names=frozenset("bc")),
        "1 name, such as b",
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
]
