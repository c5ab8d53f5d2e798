# SPDX-License-Identifier: Apache-2.0
"""Every condition that ``doctor`` knows. Names are for good: scripts may wait for them."""

from __future__ import annotations

from podman_cvmfs.doctor.finding import Area, Condition, Level

_E, _W, _N = Level.ERROR, Level.WARNING, Level.NOTE
_TABLE: dict[Area, tuple[tuple[str, Level, str], ...]] = {
    Area.ENGINE: (
        ("podman-broken", _E, "no container can be run"),
        ("podman-fails", _E, "every podman command fails"),
        ("podman-old", _W, "nobody has tried the store with a podman before 4"),
        ("podman-remote", _W, "podman asks another machine, whose stores these are not"),
        ("podman-slow", _W, "podman 4 reads a store as large as this at every command, slowly"),
        ("namespaces-off", _E, "ordinary users can't run containers"),
        ("id-maps-broken", _E, "podman can't map the user's subordinate IDs, and fails"),
        ("id-maps-missing", _W, "containers have one user ID: what wants another one fails"),
        ("mount-unseen", _E, "this user's containers of these images find no files"),
        ("native-disagrees", _W, "podman may read its configuration otherwise than is told here"),
        ("native-missing", _E, "PODMAN_CVMFS_NATIVE requires the containers/storage library"),
    ),
    Area.CONFIGURATION: (
        ("settings-unknown", _W, "a setting of podman-cvmfs has no effect"),
        ("wish-list-broken", _E, "every sync fails, and changes nothing"),
        ("storage-conf-broken", _E, "podman can't read its configuration: every command fails"),
        ("storage-conf-incomplete", _E, "podman 5 and older refuse that: every command fails"),
        ("storage-conf-append", _E, "only podman 6 reads {append=true}: every command fails here"),
        ("driver-not-overlay", _E, "podman can't use the store: that needs the overlay driver"),
        ("options-replaced", _E, "STORAGE_OPTS takes the place of what the files say"),
        ("store-not-configured", _E, "podman doesn't look into the store, and pulls its images"),
        ("login-needed", _E, "podman looks into the store only after the next login"),
        ("users-not-reached", _W, "these users' podman doesn't look into the store"),
        (
            "users-cannot-start",
            _W,
            "no image of it starts for them, nor one pulled onto its layers",
        ),
        ("users-unserved", _N, "podman 5 and older give ordinary users no store of the system's"),
        ("mount-program-missing", _E, "podman can't mount anything: every command fails"),
        ("fuse-device-closed", _E, "fuse-overlayfs can't mount anything"),
        ("fuse-overlayfs-slow", _N, "containers read files several times slower than they could"),
        ("composefs-unusable", _E, "every podman command fails"),
        ("composefs", _W, "layers of the store aren't kept as composefs wants; nobody tried it"),
        ("userns-fails", _E, "containers of the store's images don't start in that namespace"),
        ("userns-copies", _W, "a container copies its whole image for each mapping of IDs"),
        ("force-mask", _E, "without a mount_program no container can be made"),
    ),
    Area.STORE: (
        ("store-missing", _E, "every podman command fails while podman is told of it"),
        ("store-not-directory", _E, "every podman command fails while podman is told of it"),
        ("store-hangs", _E, "every podman command hangs while podman is told of it"),
        ("store-closed", _E, "every podman command fails for want of the right to read it"),
        ("store-closed-to-users", _W, "ordinary users that are told of it can't run any command"),
        ("users-locked-out", _E, "every podman command of ordinary users fails"),
        ("store-open", _W, "other users read it, though nobody has asked to share it"),
        ("store-incomplete", _E, "podman fails where it can't make what is missing"),
        ("lock-empty", _W, "podman 4 reads the store again for each image: 13 times slower"),
        ("store-damaged", _E, "podman fails, or shows something wrong, now or later"),
        ("images-cut-off", _E, "containers see the files of one layer as their whole root"),
        ("store-strange-files", _W, "a podman or somebody has written to the store"),
        ("store-leftovers", _N, "something of a sync that was killed takes space"),
        ("store-empty", _W, "every image is pulled"),
        ("store-stale", _W, "new images are pulled, and moved tags are the old ones"),
        ("sync-incomplete", _N, "images may be missing that a sync would have added"),
        ("policy-changed", _N, "the next sync lays out all images anew"),
        ("overlay-mismatch", _E, "containers see files that their images have deleted"),
        ("owner-unmapped", _E, "kernel overlayfs starts no container of this user on such files"),
        ("own-store-behind", _E, "containers of these images don't start for this user"),
        ("owner-foreign", _N, "containers see all files of an image as this user's"),
        ("owner-kept", _N, "containers add and remove files, but can't change an image's"),
        ("files-gone", _E, "containers of these images find no files"),
        ("images-too-deep", _E, "podman 4 can't start containers of these images"),
        ("images-synthesised", _W, "they have neither user nor working directory, and other IDs"),
        ("manifests-rebuilt", _N, "they aren't found by the digest of their manifest"),
        ("images-retired", _N, "they have left the repository, and go after their grace"),
        ("names-in-two-stores", _N, "they are listed twice; the store named first wins"),
        ("disk-full", _E, "syncs, pulls and containers fail"),
        ("disk-low", _W, "syncs, pulls and containers will fail before long"),
        ("sync-off", _N, "the store is as old as the last sync made by hand"),
        ("sync-failed", _W, "the store falls behind"),
    ),
    Area.REPOSITORY: (
        ("repository-missing", _E, "containers of its images don't start, nor are they pulled"),
        ("repository-hangs", _E, "containers of its images hang"),
        ("repository-broken", _E, "containers of its images fail"),
        ("repository-closed", _E, "this user can't run its images"),
        (
            "starts-may-hang",
            _W,
            "containers that make files can hang all that uses the file system",
        ),
        ("repository-foreign", _E, "it is in no layout that is known: a sync finds no images"),
    ),
    Area.REGISTRY: (
        ("registries-conf-broken", _E, "podman can't pull, and syncs fail"),
        ("registry-blocked", _N, "the store's images run all the same; nothing is pulled for them"),
    ),
}

#: Name -> condition.
CONDITIONS = {
    name: Condition(name, level, area, means)
    for area, rows in _TABLE.items()
    for name, level, means in rows
}
