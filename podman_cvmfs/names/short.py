# SPDX-License-Identifier: Apache-2.0
"""What podman may mean by a name without a registry. Pure: no I/O.

Source: containers/image v5 ``pkg/shortnames`` and containers-registries.conf(5), "Short-Name
Aliasing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from podman_cvmfs.names.reference import DOCKER_HUB, ImageName, parse_name, split_domain


def possible_names(
    text: str, aliases: Mapping[str, str], search_registries: Sequence[str]
) -> tuple[ImageName, ...]:
    """The images that ``text``, as a podman user types it, may mean, the best first.

    A name with a registry means itself. Any other goes by ``aliases`` (short name -> name with
    registry, neither with tag or digest), else there is one name in each of
    ``search_registries``, else one in Docker Hub. Raises InputError.
    """
    meant = parse_name(text)
    registry, rest = split_domain(text.partition("@")[0])
    if registry is not None:
        return (meant,)
    short, _, _ = rest.partition(":")
    alias = aliases.get(short)
    if alias:
        target = parse_name(alias)
        return (replace(meant, registry=target.registry, repository=target.repository),)
    found = []
    for host in search_registries or (DOCKER_HUB,):
        # Put in front of what was typed: only Docker Hub has a library/.
        found.append(parse_name(f"{host}/{text}"))
    return tuple(dict.fromkeys(found))
