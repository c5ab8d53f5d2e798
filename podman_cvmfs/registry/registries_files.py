# SPDX-License-Identifier: Apache-2.0
"""Which registries.conf files an engine of this user reads, and in which order.

Up to containers/image 5.39: ``pkg/sysregistriesv2/system_registries_v2.go``. Later:
containers-registries.conf(5), and containers/storage ``pkg/configfile/parse.go``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.registries_rules import RegistriesRules
from podman_cvmfs.podman.storage_conf.places import Places, with_drop_ins
from podman_cvmfs.util.toml import drop_ins

ADMIN = "/etc/containers"
VENDOR = "/usr/share/containers"
CACHE = "/var/cache"
#: The second one counts for older engines only.
VARIABLES = ("CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH")
OVERRIDE = "CONTAINERS_REGISTRIES_CONF_OVERRIDE"
_NAME = "registries.conf"


@dataclass(frozen=True)
class RegistriesFiles:
    """``main`` and then ``others``, in the order in which they are read.

    ``demanded`` are those that the environment names: they must be there. ``chosen`` has the
    answers that users gave to podman's questions about short names.
    """

    main: str
    others: tuple[str, ...]
    demanded: tuple[str, ...]
    chosen: str


def registries_files(rules: RegistriesRules) -> RegistriesFiles:
    """The files in force for this process. Raises InputError for a directory that can't be read."""
    return _everywhere() if rules.everywhere else _in_two_places()


def _everywhere() -> RegistriesFiles:
    override = os.environ.get(OVERRIDE)
    last = (override,) if override else ()
    named = os.environ.get(VARIABLES[0])
    if named:
        return RegistriesFiles(named, last, (named, *last), _chosen_aliases())
    places = replace(Places.of_process(), admin=ADMIN, vendor=VENDOR)
    try:
        found = with_drop_ins(places, "registries")
    except OSError as err:
        raise InputError(f"can't read {printable(str(err.filename))}: {err.strerror}") from None
    mains = [f"{each}/{_NAME}" for each in (places.user, places.admin, places.vendor)]
    main = found[0] if found and found[0] in mains else mains[1]
    others = (path for path in found if path != main)
    return RegistriesFiles(main, (*others, *last), last, _chosen_aliases())


def _in_two_places() -> RegistriesFiles:
    system = os.path.join(ADMIN, _NAME)
    own = os.path.join(os.path.expanduser("~"), ".config/containers", _NAME)
    directories = [f"{system}.d", f"{own}.d"]
    main = next(filter(None, map(os.environ.get, VARIABLES)), "")
    demanded = (main,) if main else ()
    if not main and os.path.exists(own):
        main = own
        directories = directories[1:]
    others = [path for directory in directories for path in drop_ins(directory, ".conf")]
    return RegistriesFiles(main or system, tuple(others), demanded, _chosen_aliases())


def _chosen_aliases() -> str:
    base = CACHE
    if os.geteuid() != 0:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "containers/short-name-aliases.conf")
