# SPDX-License-Identifier: Apache-2.0
"""Asks registries whether names still lead to the images that we know by these names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.genuine import Genuine, Moved, Test, find_genuine, has_config
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.registry.access import RegistryAccess, RegistrySource
from podman_cvmfs.reports.images import Row
from podman_cvmfs.resolve.config import SYNTHESISED

_ASKED_AT_ONCE = 8


class Upstream(str, Enum):
    """Whether a name leads to the same image in its registry as in the repository."""

    SAME = "same"
    MOVED = "moved"
    UNKNOWN = "no answer"


def upstream(
    rows: Sequence[Row],
    make_registry: Callable[[], RegistrySource],
    platform: Platform,
) -> list[Upstream]:
    """Ask for each row. ``platform`` is the one to look for in indexes."""
    registries = RegistryAccess(make_registry)

    def ask(row: Row) -> Upstream:
        name = parse_name(row.name)
        image = row.stored
        is_it: Test
        if row.offer is not None and not row.offer.image.tells_registry:
            return Upstream.UNKNOWN
        if row.offer is not None:
            is_it = row.offer.image.is_described_by
        elif image is not None:
            made_up = image.config_origin == SYNTHESISED
            is_it = has_config(Digest(image.source_id if made_up else image.image_id))
        else:
            return Upstream.UNKNOWN
        found, _ = registries.ask(
            name,
            lambda registry: find_genuine(
                lambda reference: registry.manifest(name, reference)[0],
                str(name.digest or name.tag),
                is_it,
                platform.architecture,
                platform.variant,
                f"the manifest of {name}",
            ),
        )
        if isinstance(found, Genuine):
            if row.offer is not None and not row.offer.image.may_come_by(found.index_digest):
                return Upstream.MOVED
            return Upstream.SAME
        return Upstream.MOVED if isinstance(found, Moved) else Upstream.UNKNOWN

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(ask, rows))
