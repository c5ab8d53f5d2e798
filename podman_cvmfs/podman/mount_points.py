# SPDX-License-Identifier: Apache-2.0
"""The mount points that containers.conf gives every container: where an image lacks one, podman
makes it at each start.

A sync with nothing to do asks this, so no TOML is parsed where no file sets any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.oci.customary import CUSTOMARY
from podman_cvmfs.podman.storage_conf.places import Places, containers_files
from podman_cvmfs.util.foreign_file import read_bounded

#: containers.conf(5): ``volumes`` are ``source:destination[:options]``, ``mounts`` are like podman
#: run's ``--mount``. Which files count depends on podman's version; one too many does no harm.
_SETS = re.compile(rb"^\s*(volumes|mounts)\s*=", re.MULTILINE | re.IGNORECASE)
_DESTINATION = re.compile(r"(?:^|,)(?:dst|dest|destination|target)=([^,]+)")
#: Longer files are nobody's configuration, in bytes.
_MOST = 1 << 20


def mount_points(places: Places | None = None) -> tuple[str, ...]:
    """The absolute paths that are mount points in all containers, without those that every skeleton
    has. A malformed file counts as empty: podman refuses it."""
    found: set[str] = set()
    for path in _files(Places.of_process() if places is None else places):
        try:
            data = read_bounded(path, _MOST)
            if _SETS.search(data):
                found.update(_named_in(path, data))
        except (OSError, PodmanCvmfsError):
            continue
    return tuple(sorted(found))


def _files(places: Places) -> Iterator[str]:
    files: dict[str, None] = {}
    for drop_ins in (False, True):
        try:
            files.update(dict.fromkeys(containers_files(places, drop_ins)))
        except OSError:
            continue
    yield from files


def _named_in(path: str, data: bytes) -> Iterator[str]:
    from podman_cvmfs.podman.storage_conf.toml_file import plain, section

    containers = section(path, plain(path, data), "containers")
    for volume in _texts(containers.get("volumes")):
        yield from _wanted(volume.split(":")[1:2] or [volume])
    for mount in _texts(containers.get("mounts")):
        yield from _wanted(_DESTINATION.findall(mount))


def _texts(value: object) -> Iterator[str]:
    yield from (each for each in (value if isinstance(value, list) else ()) if type(each) is str)


def _wanted(destinations: list[str]) -> Iterator[str]:
    for each in destinations:
        if each.startswith("/") and each.strip("/") not in CUSTOMARY and "\0" not in each:
            yield each
