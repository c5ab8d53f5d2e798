# SPDX-License-Identifier: Apache-2.0
"""Finds the ordinary users who can't use the system's store. Their own settings keep it from them,
or the files belong to somebody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from podman_cvmfs.errors import PodmanCvmfsError, printable
from podman_cvmfs.podman.storage_conf.effective import Places, check_driver, read_effective
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.repository.owners import is_ordinary
from podman_cvmfs.util.probe import bounded_each

_PASSWD = "/etc/passwd"
#: The drop-in that set-up makes for a user's own store.
_OWN_STORE = ".local/share/podman-cvmfs/store"
#: Seconds for one user's files, and for those of all users whose files don't answer in time.
_SECONDS, _IN_ALL = 5.0, 30.0


def shadowed(
    system: Places, generation: Generation, store: str, passwd: str = _PASSWD
) -> list[str]:
    """One line with the reason for each user of this machine whose podman doesn't use the store, or
    whose files can't be read.

    Only users in ``passwd`` are looked at. A directory service could name thousands of homes, and a
    look into each would mount it. A home that doesn't answer gets a line.
    """

    def look(user: _User) -> str:
        try:
            return _why_shadowed(user, system, generation, store)
        except PodmanCvmfsError as err:
            return err.message
        except OSError:
            return ""

    users = list(_users(passwd))
    reasons = bounded_each(look, users, _SECONDS, _IN_ALL)
    found = {
        user.name: f"{printable(user.home)} doesn't answer" if reason is None else reason
        for user, reason in zip(users, reasons)
    }
    return [f"{printable(name)}: {reason}" for name, reason in found.items() if reason]


class _User(NamedTuple):
    name: str
    uid: int
    home: str


def _why_shadowed(user: _User, system: Places, generation: Generation, store: str) -> str:
    """Why the store doesn't reach ``user``; "" if it does, or must not. Raises PodmanCvmfsError,
    OSError."""
    if not os.path.isdir(user.home):
        return ""
    places = Places.of_user(user.uid, user.home, system)
    effective = read_effective(places, generation)
    own = os.path.realpath(f"{user.home}/{_OWN_STORE}")
    if own in map(os.path.realpath, effective.stores):
        # This user has set up an own store; another set-up would replace it.
        return ""
    if not effective.inherited and effective.main and store not in effective.stores:
        return (
            f"{printable(effective.main)} doesn't name the store; "
            f"'podman-cvmfs setup --user --store {store}' as that user adds it"
        )
    check_driver(places, effective)
    has_other = os.path.isdir(f"{places.graphroot}/vfs-images")
    return "has images of the driver vfs" if has_other else ""


def _users(passwd: str) -> Iterator[_User]:
    """Each ordinary user (passwd(5))."""
    try:
        with open(passwd, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) == 7 and fields[2].isdecimal() and is_ordinary(int(fields[2])):
                    yield _User(fields[0], int(fields[2]), fields[5])
    except OSError:
        return
