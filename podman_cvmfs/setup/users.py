# SPDX-License-Identifier: Apache-2.0
"""Finds the ordinary users to whom the system's store is of no use: their own settings keep it from
them, or its files are somebody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator

from podman_cvmfs.errors import PodmanCvmfsError, printable
from podman_cvmfs.podman.storage_conf.effective import Places, check_driver, read_effective
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.repository.owners import is_ordinary

_PASSWD = "/etc/passwd"
#: What set-up gives users for their own.
_OWN_STORE = ".local/share/podman-cvmfs/store"


def shadowed(
    system: Places, generation: Generation, store: str, passwd: str = _PASSWD
) -> list[str]:
    """One line for each user of this machine that the store doesn't reach, saying why.

    Only users in ``passwd`` are looked at: asking a directory service for all homes could have
    thousands mounted.
    """
    lines = []
    for name, uid, home in _users(passwd):
        places = Places.of_user(uid, home, system)
        try:
            effective = read_effective(places, generation)
            own = os.path.realpath(f"{home}/{_OWN_STORE}")
            if own in map(os.path.realpath, effective.stores):
                # Set up by this user, who wants it apart; another set-up would take its place.
                continue
            if not effective.inherited and effective.main and store not in effective.stores:
                lines.append(
                    f"{printable(name)}: {printable(effective.main)} doesn't name the store; "
                    f"'podman-cvmfs setup --user --store {store}' run by that user adds it"
                )
            else:
                check_driver(places, effective)
                if os.path.isdir(f"{places.graphroot}/vfs-images"):
                    lines.append(f"{printable(name)}: keeps images with the driver vfs")
        except PodmanCvmfsError as err:
            lines.append(f"{printable(name)}: {err.message}")
        except OSError:
            continue
    return lines


def _users(passwd: str) -> Iterator[tuple[str, int, str]]:
    """Name, user ID and home of each ordinary user (passwd(5))."""
    try:
        with open(passwd, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) == 7 and fields[2].isdecimal():
                    uid, home = int(fields[2]), fields[5]
                    if is_ordinary(uid) and os.path.isdir(home):
                        yield fields[0], uid, home
    except OSError:
        return
