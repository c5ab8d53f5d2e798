# SPDX-License-Identifier: Apache-2.0
"""The default paths."""

from __future__ import annotations

import os

#: The repository that most sites mount.
REPOSITORY = "/cvmfs/unpacked.cern.ch"
#: Root's: the whole system uses them.
SYSTEM_STORE = "/var/lib/podman-cvmfs/store"
SYSTEM_STAGING = "/var/lib/podman-cvmfs/publish"
SYSTEM_CACHE = "/var/cache/podman-cvmfs"
#: The site's start-up profiles.
PROFILES = "/etc/podman-cvmfs/profiles"


def _user_directory(variable: str, fallback: str) -> str:
    """An XDG base directory; a relative value is to be ignored (XDG Base Directory 0.8)."""
    value = os.environ.get(variable, "")
    return value if os.path.isabs(value) else os.path.join(os.path.expanduser("~"), fallback)


def default_store() -> str:
    """The system's store for root, the user's own store for everybody else."""
    if os.geteuid() == 0:
        return SYSTEM_STORE
    return _user_directory("XDG_DATA_HOME", ".local/share") + "/podman-cvmfs/store"


def default_staging() -> str:
    """Where images for a CernVM-FS repository are unpacked before they are published."""
    if os.geteuid() == 0:
        return SYSTEM_STAGING
    return _user_directory("XDG_DATA_HOME", ".local/share") + "/podman-cvmfs/publish"


def default_cache() -> str:
    """The system's blob cache for root, the user's own cache for everybody else."""
    if os.geteuid() == 0:
        return SYSTEM_CACHE
    return _user_directory("XDG_CACHE_HOME", ".cache") + "/podman-cvmfs"


def policy_files(everywhere: bool = True) -> list[str]:
    """Where podman looks for its ``policy.json``, the best place first: ``everywhere``, as podman 6
    does, or only where older ones look (containers-policy.json(5))."""
    name = "containers/policy.json"
    own = os.path.join(os.path.expanduser("~"), ".config")
    if not everywhere:
        return [f"{own}/{name}", f"/etc/{name}"]
    named = os.environ.get("CONTAINERS_POLICY_JSON")
    base = os.environ.get("XDG_CONFIG_HOME") or own
    return [named] if named else [f"{each}/{name}" for each in (base, "/etc", "/usr/share")]
