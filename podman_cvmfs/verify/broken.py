# SPDX-License-Identifier: Apache-2.0
"""What ``verify`` says of users' images and containers that show one layer as their whole root."""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.errors import printable
from podman_cvmfs.usage.broken_layers import cure_of, find_broken
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.verify.fault import Fault, Kind, Severity


def broken_users(store: str) -> Iterator[Fault]:
    """A finding for each image and container in all graphroots that can be seen, whose podman may
    look into ``store``."""
    places = find_graphroots()
    broken = find_broken([*places.own, *places.others], [store])
    for graphroot, found in broken.by_graphroot().items():
        for each in found:
            yield Fault(
                Severity.ERROR,
                Kind.CUT_OFF,
                printable(graphroot),
                f"{each} shows the files of one layer as its whole root",
                f"as the owner of {printable(graphroot)}: {printable(cure_of([each]))}, "
                "then pull or create it again",
            )
