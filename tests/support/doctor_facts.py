# SPDX-License-Identifier: Apache-2.0
"""The facts of a machine where nothing is wrong, and functions that spoil them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from podman_cvmfs.doctor.facts import (
    Client,
    Configuration,
    Contents,
    Disk,
    Engine,
    Facts,
    Place,
    Repository,
    Units,
    User,
)
from podman_cvmfs.podman.storage_conf.effective import Effective
from podman_cvmfs.usage.broken_layers import Broken
from podman_cvmfs.verify.fault import Fault, Kind, Severity

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
DAMAGED = Fault(Severity.ERROR, Kind.DAMAGED, "/a", "is bad", "mend it")
FOREIGN = Fault(Severity.ERROR, Kind.FOREIGN, "/a", "is", "")
LEFTOVER = Fault(Severity.WARNING, Kind.LEFTOVER, "/a", "is", "")
FORMER = Fault(Severity.WARNING, Kind.FORMER_LAYOUT, "/a", "is", "")
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
    """``facts`` with another configuration of podman."""
    return replace(facts, configuration=replace(facts.configuration, **changes))


def options(facts: Facts = ROOT, **changes: str) -> Facts:
    """``facts`` with options of storage.conf."""
    set_in = dict.fromkeys(changes, CONF)
    return conf(facts, effective=replace(EFFECTIVE, options=changes), set_in=set_in)


def contents(facts: Facts = ROOT, **changes: Any) -> Facts:
    """``facts`` with other contents of the store."""
    return replace(facts, contents=replace(facts.contents, **changes))


def store(facts: Facts = ROOT, **changes: Any) -> Facts:
    """``facts`` with another store."""
    return replace(facts, store=replace(facts.store, **changes))


def repository(facts: Facts = ROOT, **changes: Any) -> Facts:
    """``facts`` with another repository."""
    return replace(facts, repositories=(replace(facts.repositories[0], **changes),))


def other(facts: Facts = ROOT, **changes: Any) -> Facts:
    """``facts`` with a store of somebody else, too."""
    return replace(facts, others=(Place(**{"path": "/theirs", **changes}),))


def counts(facts: Facts = ROOT, **changes: int) -> Facts:
    """``facts`` with so many images of each kind."""
    return contents(facts, counts={"images": 3, **changes})


def disk(what: str, free: int, inodes: int) -> Facts:
    """A machine with one disk."""
    return replace(ROOT, disks=(Disk(what, f"/{what}", free, 100 << 30, inodes, 1_000_000),))


def client(facts: Facts = ROOT, **changes: Any) -> Facts:
    """``facts`` with a client of CernVM-FS."""
    return replace(
        facts, clients=(Client(**{"repository": REPOSITORY, "cache": "/cache", **changes}),)
    )


def units(**states: str) -> Facts:
    """A machine with units of systemd in these states."""
    found: Mapping[str, Mapping[str, str]] = {
        f"podman-cvmfs-{name.replace('_', '.')}": {"ActiveState": state, "Result": "exit-code"}
        for name, state in states.items()
    }
    return replace(ROOT, units=Units(True, found))


#: Condition, the facts it is in, part of what is told, the cure (a command, or words after "# ").
Case = tuple[str, Facts, str, str]
