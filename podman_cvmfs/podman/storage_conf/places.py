# SPDX-License-Identifier: Apache-2.0
"""Where podman looks for its configuration, and which of these files it reads, in which order.

containers/storage up to 1.62 reads one storage.conf (``types/options.go``);
1.63 and later one main file and drop-ins (``pkg/configfile/parse.go``). containers.conf has had
drop-ins for long (containers/common ``pkg/config/new.go``). Nothing is parsed here, and little is
imported: a sync with nothing to do looks at these files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podman_cvmfs.podman.storage_conf.generation import Generation


@dataclass(frozen=True)
class Places:
    """Where one user's podman looks for its configuration and keeps its images."""

    uid: int
    #: .../containers of the vendor, of the administrator, of the user.
    vendor: str
    admin: str
    user: str
    #: Where the images are unless a file says otherwise.
    graphroot: str
    #: Files that the environment names: they are read alone.
    storage_conf: str | None = None
    containers_conf: str | None = None
    #: One that the environment has read after all others, by containers/storage 1.63 and later.
    storage_override: str | None = None
    #: STORAGE_OPTS; None where it isn't set. Set to nothing, it replaces options all the same.
    storage_opts: str | None = None

    @classmethod
    def of_process(cls, environ: Mapping[str, str] | None = None) -> Places:
        """The places of whoever runs this, by environment and effective user ID."""
        environ = os.environ if environ is None else environ
        uid = os.geteuid()
        home = environ.get("HOME") or os.path.expanduser("~")
        config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        data = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
        return cls(
            uid=uid,
            vendor="/usr/share/containers",
            admin="/etc/containers",
            user=f"{config}/containers",
            graphroot=f"{data if uid else '/var/lib'}/containers/storage",
            storage_conf=environ.get("CONTAINERS_STORAGE_CONF") or None,
            containers_conf=environ.get("CONTAINERS_CONF") or None,
            storage_override=environ.get("CONTAINERS_STORAGE_CONF_OVERRIDE") or None,
            storage_opts=environ.get("STORAGE_OPTS"),
        )

    @classmethod
    def of_user(cls, uid: int, home: str, system: Places) -> Places:
        """The places of another user, who sets nothing in the environment."""
        return cls(
            uid=uid,
            vendor=system.vendor,
            admin=system.admin,
            user=f"{home}/.config/containers",
            graphroot=f"{home}/.local/share/containers/storage",
        )


def storage_files(places: Places, generation: Generation) -> list[str]:
    """The storage.conf files in force, in the order they are read."""
    if generation.drop_ins:
        named = [places.storage_conf] if places.storage_conf else with_drop_ins(places, "storage")
        return [*named, *([places.storage_override] if places.storage_override else [])]
    if places.storage_conf:
        return [places.storage_conf]
    mains = [f"{places.user}/storage.conf"] if places.uid else []
    return [path for path in [*mains, *system_mains(places)] if _present(path)][:1]


def containers_files(places: Places, drop_ins: bool) -> list[str]:
    """The containers.conf files in force, in the order they are read; ``drop_ins`` as in
    ``Generation``."""
    if places.containers_conf:
        return [places.containers_conf]
    if drop_ins:
        return with_drop_ins(places, "containers")
    files = [f"{places.vendor}/containers.conf"]
    for directory in [places.admin, *([places.user] if places.uid else [])]:
        files += [f"{directory}/containers.conf", *_drop_ins_in(f"{directory}/containers.conf.d")]
    return [path for path in files if _present(path)]


def _present(path: str) -> bool:
    """Whether podman reads ``path``; it takes a link that leads nowhere for a missing file."""
    return os.path.exists(path)


def system_mains(places: Places) -> list[str]:
    """The administrator's storage.conf and the vendor's, whether or not they are there."""
    return [f"{places.admin}/storage.conf", f"{places.vendor}/storage.conf"]


def with_drop_ins(places: Places, name: str) -> list[str]:
    """One main file, then all drop-ins by file name; a later directory's replaces its namesake."""
    mains = [f"{each}/{name}.conf" for each in (places.user, places.admin, places.vendor)]
    kind = "rootless" if places.uid else "rootful"
    named: dict[str, str] = {}
    for directory in (places.vendor, places.admin):
        special = f"{directory}/{name}.{kind}.conf.d"
        for each in (
            f"{directory}/{name}.conf.d",
            special,
            *([f"{special}/{places.uid}"] if places.uid else []),
        ):
            named.update((os.path.basename(path), path) for path in _drop_ins_in(each))
    user = _drop_ins_in(f"{places.user}/{name}.conf.d")
    named.update((os.path.basename(path), path) for path in user)
    main = [path for path in mains if _present(path)][:1]
    return main + [named[each] for each in sorted(named)]


def _drop_ins_in(directory: str) -> list[str]:
    try:
        return sorted(
            entry.path
            for entry in os.scandir(directory)
            if entry.name.endswith(".conf") and not entry.is_dir(follow_symlinks=False)
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
