# SPDX-License-Identifier: Apache-2.0
"""Every condition that ``doctor`` knows. Names never change: scripts may test for them."""

from __future__ import annotations

from podman_cvmfs.doctor.finding import Area, Condition, Level

_E, _W, _N = Level.ERROR, Level.WARNING, Level.NOTE
_TABLE: dict[Area, tuple[tuple[str, Level, str], ...]] = {
    Area.ENGINE: (
        ("podman-broken", _E, "no container can be run"),
        ("podman-fails", _E, "every podman command fails"),
        ("podman-old", _W, "the store has not been tested with podman before version 4"),
        (
            "podman-remote",
            _W,
            "podman runs on another machine, and doesn't use the stores of this one",
        ),
        (
            "podman-slow",
            _W,
            "podman 4 reads the whole store at every command, and this store is large",
        ),
        (
            "repair-removes",
            _N,
            "'podman system check --repair' takes these images for damaged and removes them",
        ),
        ("namespaces-off", _E, "ordinary users can't run containers"),
        ("id-maps-broken", _E, "podman can't map the user's subordinate IDs: every command fails"),
        (
            "id-maps-missing",
            _W,
            "containers have only one user ID: programs that need another one fail",
        ),
        ("mount-unseen", _E, "this user's containers of these images find no files"),
        ("containers-stuck", _E, "these containers can read no files of their images"),
        ("native-disagrees", _W, "podman may read its configuration differently from this report"),
        ("native-missing", _E, "PODMAN_CVMFS_NATIVE requires the containers/storage library"),
    ),
    Area.CONFIGURATION: (
        ("settings-unknown", _W, "a setting of podman-cvmfs has no effect"),
        ("wish-list-broken", _E, "every sync fails and changes nothing"),
        ("storage-conf-broken", _E, "podman can't read its configuration: every command fails"),
        ("storage-conf-incomplete", _E, "podman 5 and older refuse this file: every command fails"),
        ("storage-conf-append", _E, "only podman 6 reads {append=true}: every command fails here"),
        (
            "driver-not-overlay",
            _E,
            "podman can't use the store: the store needs the overlay driver",
        ),
        ("options-replaced", _E, "STORAGE_OPTS replaces the options of the files"),
        ("store-not-configured", _E, "podman doesn't use the store and pulls its images"),
        ("login-needed", _E, "podman uses the store only after the next login"),
        ("users-not-reached", _W, "these users' podman doesn't use the store"),
        (
            "users-cannot-start",
            _W,
            "these users can't start its images, or images pulled onto its layers",
        ),
        ("users-unserved", _N, "podman 5 and older don't give ordinary users the system's stores"),
        ("service-without-store", _W, "podman in these services doesn't use the store, and pulls"),
        ("mount-program-missing", _E, "podman can't mount anything: every command fails"),
        ("fuse-device-closed", _E, "fuse-overlayfs can't mount anything"),
        (
            "fuse-overlayfs-slow",
            _N,
            "containers read files several times slower than with the kernel",
        ),
        ("composefs-unusable", _E, "every podman command fails"),
        (
            "composefs",
            _W,
            "the store's layers are not in composefs form, and this has not been tested",
        ),
        ("userns-fails", _E, "containers of the store's images don't start in this namespace"),
        ("auto-ids-missing", _E, "no container can be made: automatic namespaces have no IDs"),
        ("userns-copies", _W, "a container copies its whole image for each mapping of IDs"),
        ("crio-conf-broken", _E, "CRI-O doesn't start"),
        ("crio-store-missing", _E, "CRI-O doesn't start"),
        (
            "crio-cut-off",
            _E,
            "CRI-O can't list images once podman has pulled one onto the store's layers",
        ),
        ("crio-not-configured", _N, "CRI-O doesn't use the store, and pulls its images"),
        ("crio-repairs", _W, "a crash of CRI-O can remove all its containers and images"),
        (
            "crio-unpinned",
            _W,
            "the kubelet counts these images as removed while the disk stays full",
        ),
        ("crio-pause", _N, "pods with hostUsers: false don't start"),
        ("mount-options", _E, "the kernel refuses these options: no container starts"),
        ("force-mask", _E, "without a mount_program no container can be made"),
    ),
    Area.STORE: (
        (
            "store-missing",
            _E,
            "every podman command fails as long as podman's configuration names it",
        ),
        (
            "store-not-directory",
            _E,
            "every podman command fails as long as podman's configuration names it",
        ),
        (
            "store-hangs",
            _E,
            "every podman command hangs as long as podman's configuration names it",
        ),
        ("store-closed", _E, "every podman command fails because the user can't read the store"),
        (
            "store-closed-to-users",
            _W,
            "every podman command fails for ordinary users whose podman uses it",
        ),
        ("users-locked-out", _E, "every podman command of ordinary users fails"),
        ("store-open", _W, "other users can read the store, but no setting shares it"),
        ("store-incomplete", _E, "podman fails if it can't make the missing files"),
        ("lock-empty", _W, "podman 4 reads the store again for each image and is 13 times slower"),
        ("store-damaged", _E, "podman fails or shows something wrong, now or later"),
        ("images-cut-off", _E, "containers see only the files of one layer"),
        ("store-strange-files", _W, "podman or somebody else has written to the store"),
        ("store-leftovers", _N, "files of an interrupted sync take up space"),
        ("store-empty", _W, "every image is pulled"),
        ("store-stale", _W, "podman pulls new images, and moved tags lead to the old images"),
        ("sync-incomplete", _N, "a sync may add images"),
        ("policy-changed", _N, "the next sync lays out all images anew"),
        ("overlay-mismatch", _E, "containers see files that their images have deleted"),
        (
            "owner-unmapped",
            _E,
            "this user can't start containers on such files with kernel overlayfs",
        ),
        ("own-store-behind", _E, "containers of these images don't start for this user"),
        ("owner-foreign", _N, "in containers all files of an image belong to this user"),
        (
            "owner-kept",
            _N,
            "containers can make and remove files in some directories only, such as /etc and /tmp",
        ),
        (
            "exact-loses-data",
            _E,
            "commits of containers of these images, and builds on them, lose the content of files",
        ),
        ("exact-unusable", _E, "containers of these images don't start"),
        ("files-gone", _E, "containers of these images find no files"),
        ("images-too-deep", _E, "podman 4 can't start containers of these images"),
        (
            "images-synthesised",
            _W,
            "these images have no user, no working directory and no genuine ID",
        ),
        ("manifests-rebuilt", _N, "podman can't find these images by the digest of their manifest"),
        (
            "images-retired",
            _N,
            "the repository no longer has them: they are removed after the grace period",
        ),
        ("names-in-two-stores", _N, "podman lists them twice and uses the store named first"),
        ("disk-full", _E, "syncs, pulls and containers fail"),
        ("disk-low", _W, "syncs, pulls and containers will fail before long"),
        ("sync-off", _N, "nothing updates the store: it is as old as the last sync made by hand"),
        ("sync-failed", _W, "the store is not updated"),
    ),
    Area.REPOSITORY: (
        (
            "repository-missing",
            _E,
            "containers of its images don't start, and podman doesn't pull these images",
        ),
        ("repository-hangs", _E, "containers of its images hang"),
        ("repository-broken", _E, "containers of its images fail"),
        (
            "fetches-fail",
            _W,
            "containers fail when they read files that the client has not cached",
        ),
        ("repository-closed", _E, "this user can't run its images"),
        (
            "starts-may-hang",
            _W,
            "containers that make files can hang every process that uses the file system",
        ),
        (
            "repository-foreign",
            _E,
            "the layout of the repository is unknown: a sync finds no images",
        ),
    ),
    Area.REGISTRY: (
        ("registries-conf-broken", _E, "podman can't pull and syncs fail"),
        ("policy-json-broken", _E, "podman can't pull and syncs fail"),
        (
            "images-rejected",
            _W,
            "podman pulls none of these images, and the next sync takes them out of the store",
        ),
        (
            "images-unsigned",
            _W,
            "nobody has checked their signatures: the next sync takes them out of the store",
        ),
        ("blob-source-down", _W, "syncs ask the registries; with offline = true they can't"),
        ("blob-source-wrong", _W, "syncs leave these files out and ask the registries"),
        ("registry-blocked", _N, "the store's images run anyway; podman pulls nothing for them"),
    ),
}

#: Name -> condition.
CONDITIONS = {
    name: Condition(name, level, area, means)
    for area, rows in _TABLE.items()
    for name, level, means in rows
}
