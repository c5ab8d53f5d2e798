# SPDX-License-Identifier: Apache-2.0
"""Conditions of podman and its configuration."""

from __future__ import annotations

from dataclasses import replace

from podman_cvmfs.doctor import edits
from podman_cvmfs.doctor.facts import Engine, Native, Presence
from podman_cvmfs.podman.services import Service
from podman_cvmfs.usage.broken_layers import BrokenUsers
from tests.support.doctor_facts import (
    BROKEN,
    CONF,
    EFFECTIVE,
    RESET,
    ROOT,
    SETUP,
    SETUP_USER,
    SHARED,
    STORE,
    SYNC,
    USER,
    Case,
    conf,
    contents,
    counts,
    options,
    repository,
    store,
)

PODMAN_CASES: list[Case] = [
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
        "# compare the versions",
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
    (
        "storage-conf-incomplete",
        conf(lacking={"runroot": "/run/s"}, has_table=None),
        "doesn't set runroot",
        '# set runroot = "/run/s" in the table storage of /etc',
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
        RESET,
    ),
    (
        "driver-not-overlay",
        conf(driver="vfs", effective=replace(EFFECTIVE, driver="")),
        "removes all its images",
        f"{RESET}; {SETUP}",
    ),
    (
        # podman can't reset what it doesn't know.
        "driver-not-overlay",
        conf(
            driver="overla",
            effective=replace(EFFECTIVE, driver="overla"),
            set_in={"driver": CONF},
        ),
        "removes podman's database",
        f"{edits.set_key('driver', 'overlay', CONF)} && rm --force /g/libpod/bolt_state.db /g/d",
    ),
    (
        "driver-not-overlay",
        replace(ROOT, engine=Engine("4.3.1", driver="overla")),
        "its database says so",
        "rm --force /g/libpod/bolt_state.db /g/db.sql",
    ),
    (
        "driver-not-overlay",
        conf(
            driver="vfs",
            effective=replace(EFFECTIVE, driver="vfs"),
            set_in={"driver": CONF},
            fixed=frozenset({"driver"}),
        ),
        "vfs",
        f'# set driver = "overlay" in {CONF}; then: {RESET}',
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
        # The variable would replace what set-up writes.
        "store-not-configured",
        conf(
            replace(ROOT, is_configured=False),
            environment={"STORAGE_OPTS": ""},
            dropped_stores=("/other",),
        ),
        CONF,
        f"unset STORAGE_OPTS && {SETUP}",
    ),
    (
        "store-not-configured",
        conf(
            replace(USER, is_configured=False),
            profile="",
            effective=replace(EFFECTIVE, inherited=True),
        ),
        "use the stores of the system",
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
        "can be read by its owner only",
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
        "auto-ids-missing",
        conf(
            options(replace(ROOT, user=replace(ROOT.user, auto_ids=False)), mount_program="/f"),
            userns="auto:size=5",
        ),
        "containers",
        "echo containers:2147483647:2147483648 | tee --append /etc/subuid /etc/subgid",
    ),
    (
        "service-without-store",
        replace(ROOT, services=(Service("/q/a.container", ("--root=/r",)), Service("/q/b", ()))),
        "/q/a.container has --root=/r (and 1 more)",
        f"# give podman --storage-opt=imagestore={STORE} there",
    ),
    (
        # The site's own program, or one that an option needs, stays.
        "mount-program-missing",
        conf(options(mount_program="/none"), missing_programs=("/none",), is_own_program=True),
        "/none",
        f"# install /none, or correct mount_program in {CONF}",
    ),
    (
        "mount-program-missing",
        conf(options(mount_program="/none", force_mask="0755"), missing_programs=("/none",)),
        "/none",
        "# install /none",
    ),
    (
        "fuse-device-closed",
        conf(options(USER, mount_program="/f"), has_fuse=False),
        "/dev/fuse",
        "# as root: modprobe fuse; chmod 0666 /dev/fuse",
    ),
    (
        "fuse-device-closed",
        conf(options(mount_program="/f"), has_fuse=False),
        "/dev/fuse",
        "modprobe fuse; chmod 0666 /dev/fuse",
    ),
    ("fuse-overlayfs-slow", options(mount_program="/f"), "/f", f"{SETUP} --overlay kernel"),
    (
        # Else podman would keep the program.
        "fuse-overlayfs-slow",
        conf(options(mount_program="/f"), remembered_in="/g/overlay/.has-mount-program"),
        "/f",
        f"{SETUP} --overlay kernel && rm --force /g/overlay/.has-mount-program",
    ),
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
    (
        "mount-options",
        options(mountopt="nodev,fsync=0"),
        "mountopt has fsync=0",
        f"# take fsync=0 out of mountopt in {CONF}",
    ),
    ("force-mask", options(force_mask="0755"), "force_mask", edits.comment_out("force_mask", CONF)),
    (
        "force-mask",
        conf(options(force_mask="0755"), fixed=frozenset({"force_mask"})),
        "force_mask",
        f"# take force_mask out of {CONF}",
    ),
]
