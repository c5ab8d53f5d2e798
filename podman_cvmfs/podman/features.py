# SPDX-License-Identifier: Apache-2.0
"""The features of the podman on this machine."""

from __future__ import annotations

import functools
import re

from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.storage_conf.ask import ask_version, environment, major_of

#: podman 4 hands all lower directories to the kernel in one page; about this much of it is taken
#: by the container's own directories and the other options (containers/storage 1.43
#: ``drivers/overlay/mount.go``).
_PAGE = 4096
_OWN_OPTIONS = 400
#: Every podman mounts this much.
SHORT_MOUNT_DATA = _PAGE - _OWN_OPTIONS
#: The first podman that knows zstd in a manifest of Docker's.
_DOCKER_ZSTD = (5, 7)


@functools.cache
def podman_major() -> int | None:
    """The major version of podman, None where there is none or it can't tell."""
    try:
        return major_of(ask_version(environment()))
    except InputError:
        return None


@functools.cache
def reads_docker_zstd() -> bool:
    """Whether podman reads manifests of Docker's with layers in zstd. False without podman: other
    engines may have an older library than podman 5.7 has."""
    try:
        return is_at_least(ask_version(environment()), _DOCKER_ZSTD)
    except InputError:
        return False


def is_at_least(version: str, first: tuple[int, int]) -> bool:
    """Whether ``version`` is not below ``first``, a major and a minor number. False for a version
    that can't be understood."""
    found = re.match(r"([0-9]+)\.([0-9]+)", version)
    return found is not None and (int(found.group(1)), int(found.group(2))) >= first


def mount_data_limit() -> int | None:
    """How many bytes of lower directories podman here can mount, None for no practical limit."""
    major = podman_major()
    return SHORT_MOUNT_DATA if major is not None and major < 5 else None
