# SPDX-License-Identifier: Apache-2.0
"""The meanings of a name that a user types, by podman's rules and the user's registries.conf."""

from __future__ import annotations

from podman_cvmfs.names.reference import DOCKER_HUB, ImageName, parse_name, split_domain
from podman_cvmfs.names.short import possible_names
from podman_cvmfs.registry.registries_conf import load_registries_conf

_LOCALHOST = "localhost"
#: podman takes a name with this before it, too, and then knows no short ones.
_TRANSPORT = "docker://"


def is_short(text: str) -> bool:
    """Whether a name lacks its registry."""
    return not text.startswith(_TRANSPORT) and split_domain(text.partition("@")[0])[0] is None


def meanings(text: str) -> tuple[ImageName, ...]:
    """The images that podman may use for ``text`` here, in podman's order. Raises InputError."""
    if not is_short(text):
        return (parse_name(text[len(_TRANSPORT) :] if text.startswith(_TRANSPORT) else text),)
    conf = load_registries_conf()
    # podman looks among images that were built here first, unless the name has an alias.
    search = (_LOCALHOST, *(conf.search_registries or (DOCKER_HUB,)))
    return possible_names(text, conf.aliases, search)
