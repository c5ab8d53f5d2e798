# SPDX-License-Identifier: Apache-2.0
"""The findings of ``verify`` on users' images and containers that show only the files of one
layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podman_cvmfs.errors import printable
from podman_cvmfs.usage.broken_layers import cure_of, find_broken
from podman_cvmfs.usage.graphroots import find_graphroots
from podman_cvmfs.verify.fault import Fault, Kind, Severity


def broken_users(store: str, patterns: Sequence[str] = ()) -> Iterator[Fault]:
    """A finding for each such image and container in all visible graphroots whose podman may use
    ``store``, and in those that the settings' ``patterns`` mean."""
    places = find_graphroots(patterns=patterns)
    broken = find_broken([*places.own, *places.others], [store])
    for graphroot, found in broken.by_graphroot().items():
        for each in found:
            yield Fault(
                Severity.ERROR,
                Kind.CUT_OFF,
                printable(graphroot),
                f"{each} shows only the files of one layer",
                f"as the owner of {printable(graphroot)}: {printable(cure_of([each]))}, "
                "then pull or create it again",
            )
