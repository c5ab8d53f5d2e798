# SPDX-License-Identifier: Apache-2.0
"""Look at what surrounds podman: the user's rights, disks, systemd's units, registries.conf."""

from __future__ import annotations

import functools
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from podman_cvmfs.doctor.facts import Disk, Registries, Units, User
from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.registry.registries_conf import load_registries_conf
from podman_cvmfs.usage.broken_layers import BrokenUsers, find_broken
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.util.probe import HangingError, bounded

UNITS = (
    "podman-cvmfs-sync.timer",
    "podman-cvmfs-sync.service",
    "podman-cvmfs-watch.service",
)
_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,Result"
_SYSTEMCTL_TIMEOUT = 10
_CONTAINER = ("/run/.containerenv", "/.dockerenv")
#: The name of whose subordinate IDs root's containers get some (podman-run(1), ``--userns=auto``).
_AUTO = "containers"
#: Where subordinate IDs usually begin (SUB_UID_MIN in login.defs(5)).
_FIRST_ID = 100_000
#: Where the kernel says whether ordinary users may make user namespaces; 0: they may not.
_SWITCHES = (
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
)


def is_container() -> bool:
    """Whether this runs inside a container that podman or docker has made: both leave a file."""
    return any(map(os.path.exists, _CONTAINER))


def look_at_user() -> User:
    """Who runs this."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return User(
        uid=uid,
        name=name,
        subuids=_subordinate("/etc/subuid", name, uid),
        subgids=_subordinate("/etc/subgid", name, uid),
        auto_ids=all(_subordinate(path, _AUTO, -1) != 0 for path in ("/etc/subuid", "/etc/subgid")),
        bad_programs=tuple(each for each in ("newuidmap", "newgidmap") if not _may_map(each)),
        free_id=max(_FIRST_ID, _end("/etc/subuid"), _end("/etc/subgid")),
        namespaces=not any(_is_zero(path) for path in _SWITCHES),
        kernel=(int(release[1]), int(release[2])) if release else (0, 0),
    )


def _subordinate(path: str, name: str, uid: int) -> int | None:
    """How many IDs ``path`` gives a user (subuid(5)); None if a directory service is asked."""
    total = 0
    for line in _lines(path):
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in (name, str(uid)) and fields[2].isdecimal():
            total += int(fields[2])
    services = [
        line.split(":", 1)[1].split()
        for line in _lines("/etc/nsswitch.conf")
        if line.startswith("subid:")
    ]
    return None if not total and services and services[0] != ["files"] else total


def _end(path: str) -> int:
    """The first ID after all IDs that ``path`` (subuid(5)) gives to users."""
    fields = [line.split(":") for line in _lines(path)]
    return max(
        (int(f[1]) + int(f[2]) for f in fields if len(f) == 3 and (f[1] + f[2]).isdecimal()),
        default=0,
    )


def _may_map(program: str) -> bool:
    path = shutil.which(program)
    if path is None:
        return False
    if os.stat(path).st_mode & 0o4000:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _is_zero(path: str) -> bool:
    return [line.strip() for line in _lines(path)] == ["0"]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def look_at_disks(places: Mapping[str, str], seconds: float) -> tuple[Disk, ...]:
    """The file systems of ``places`` (what -> path), or of their nearest existing parents."""
    disks = []
    for what, path in places.items():
        try:
            disks.append(bounded(lambda w=what, p=path: _disk(w, p), seconds))  # type: ignore[misc]
        except (HangingError, OSError):
            continue
    return tuple(disks)


def _disk(what: str, path: str) -> Disk:
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return Disk(
        what,
        path,
        free=found.f_bavail * found.f_frsize,
        size=found.f_blocks * found.f_frsize,
        free_inodes=found.f_favail,
        inodes=found.f_files,
    )


def look_at_units(for_user: bool) -> Units:
    """Our units, the system's or (``for_user``) the user's."""
    if not os.path.isdir("/run/systemd/system"):
        return Units()
    argv = ["systemctl", *(["--user"] if for_user else []), "show", f"--property={_PROPERTIES}"]
    try:
        done = subprocess.run(
            [*argv, *UNITS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=_SYSTEMCTL_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError):
        return Units()
    return read_units(done.stdout) if done.returncode == 0 else Units()


def read_units(text: str) -> Units:
    """The units in the output of ``systemctl show``: a paragraph of NAME=VALUE for each. Pure."""
    states = {}
    for paragraph in text.split("\n\n"):
        fields = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if fields.get("LoadState") == "loaded":
            states[fields.get("Id", "")] = fields
    return Units(True, states)


def look_at_wish_lists(lists: Iterable[str], cache: str, seconds: float) -> dict[str, str]:
    """Why a sync refuses some of the wish ``lists`` -> the cure. ``cache`` is the directory with
    the copies of lists from web servers."""
    found: dict[str, str] = {}
    for path in lists:
        # PyYAML is large.
        from podman_cvmfs.sync.wish_list import read_wish_list

        try:
            read = functools.partial(read_wish_list, path, cache)
            bounded(lambda read=read: len(read().specs), seconds)  # type: ignore[misc]
        except InputError as err:
            found[err.message] = err.hint or "correct it, or take it out of wish_lists"
        except (HangingError, OSError):
            found[f"the wish list {printable(path)} doesn't answer"] = "mount its file system again"
    return found


def look_at_broken(
    stores: Sequence[str], seconds: float, patterns: Sequence[str] = ()
) -> BrokenUsers:
    """Users' images and containers that are cut off from the layers below them, if podman looks
    into ``stores``. ``patterns`` are the settings' graphroots."""

    def look() -> BrokenUsers:
        places = find_graphroots(patterns=patterns)
        return find_broken([*places.own, *places.others], stores)

    try:
        return bounded(look, seconds)
    except (HangingError, OSError):
        # podman reports all other faults of a graphroot.
        return BrokenUsers()


def look_at_registries(names: Iterable[str]) -> Registries:
    """registries.conf, and which of the store's image ``names`` it blocks."""
    try:
        conf = load_registries_conf()
    except InputError as err:
        return Registries(err.message, err.hint or "")
    blocked = {}
    if any(table.blocked for table in conf.tables):
        for text in sorted(names):
            try:
                conf.endpoints(parse_name(text))
            except RegistryError as err:
                blocked[text] = err.message
            except InputError:
                continue
    return Registries(blocked=blocked)
