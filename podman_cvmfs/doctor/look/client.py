# SPDX-License-Identifier: Apache-2.0
"""Look at CernVM-FS's client: where its cache is, and which graphroots share its file system."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable

from podman_cvmfs.doctor.facts import Client
from podman_cvmfs.doctor.look.client_conf import client_settings, is_on
from podman_cvmfs.usage.graphroots import Graphroots, find_graphroots
from podman_cvmfs.util.probe import HangingError, bounded

#: Where the client keeps its cache if its settings don't say (cvmfs ``default.conf``).
_CACHE = "/var/lib/cvmfs"
#: The client's settings that name the cache; the first that is set counts.
_CACHE_KEYS = ("CVMFS_CACHE_DIR", "CVMFS_CACHE_BASE")
#: With this setting the client moves fetched files within one directory. It has two names (cvmfs
#: ``mountpoint.cc``, ``MkCacheParm``).
_MODE_KEYS = ("CVMFS_CACHE_SERVER_MODE", "CVMFS_SERVER_CACHE_MODE")
#: Extended attributes of a CernVM-FS mount (client 2.12), which a setting of the client hides.
_PROCESS, _NAME = "user.pid", "user.fqrn"
#: What the client calls itself in the table of mounts.
_SOURCE = "cvmfs2"
_REPOSITORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")


def look_at_clients(repositories: Iterable[str], seconds: float) -> tuple[Client, ...]:
    """The clients of all ``repositories`` that are mounts of CernVM-FS."""
    clients = []
    for path in repositories:
        with contextlib.suppress(HangingError, OSError):
            found = bounded(lambda path=path: _client(path), seconds)  # type: ignore[misc]
            if found is not None:
                clients.append(found)
    if not clients:
        return ()
    try:
        return bounded(lambda: _with_graphroots(clients, find_graphroots()), seconds)
    except (HangingError, OSError):
        return tuple(clients)


def _client(path: str) -> Client | None:
    """The client that shows ``path``; None if something else does. Raises OSError."""
    process = _attribute(path, _PROCESS)
    mounts = _mounts()
    mount = mounts.get(_mount_of(path))
    if not process.isdecimal() and (mount is None or mount[1] != _SOURCE):
        return None
    name = _attribute(path, _NAME) or os.path.basename(os.path.realpath(path))
    settings = client_settings(name if _REPOSITORY.match(name) else "")
    modes = [settings[key] for key in _MODE_KEYS if settings.get(key)]
    return Client(path, _cache(process, settings), one_directory=bool(modes) and is_on(modes[0]))


def _attribute(path: str, name: str) -> str:
    try:
        return os.getxattr(path, name).decode("ascii", "replace")
    except OSError:
        return ""


def _cache(process: str, settings: dict[str, str]) -> str:
    """The cache of the client with this process ID. It is the client's working directory, which
    only root can see; else the directory in its settings."""
    if process.isdecimal():
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{process}/cwd")
    return next((settings[key] for key in _CACHE_KEYS if settings.get(key)), _CACHE)


def _with_graphroots(clients: Iterable[Client], graphroots: Graphroots) -> tuple[Client, ...]:
    """The clients, each with the graphroots on the file system of its cache."""
    own = [(path, _file_system(path)) for path in graphroots.own]
    others = [(path, _file_system(path)) for path in graphroots.others]
    found = []
    for client in clients:
        there = _file_system(client.cache)
        found.append(
            Client(
                client.repository,
                client.cache,
                client.one_directory,
                tuple(path for path, device in own if device == there),
                tuple(path for path, device in others if device == there),
            )
        )
    return tuple(found)


def _file_system(path: str) -> str:
    """The number of the file system that holds ``path``, or its nearest existing parent.

    The table of mounts has one for all subvolumes of a btrfs, which share the lock in question;
    stat(2) tells one for each.
    """
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    mount = _mounts().get(_mount_of(path))
    if mount is not None:
        return mount[0]
    device = os.stat(path).st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def _mount_of(path: str) -> str:
    """The ID of the mount that ``path`` is in (proc_pid_fdinfo(5))."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    finally:
        os.close(descriptor)
    return fields.get("mnt_id", "").strip()


def _mounts() -> dict[str, tuple[str, str]]:
    """The ID of each mount -> the number of its file system, and what is mounted
    (proc_pid_mountinfo(5))."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            number, _, device, *_ = fields.split()
            found[number] = (device, rest.split()[1])
    return found
