# SPDX-License-Identifier: Apache-2.0
"""Judges whether podman here can be given the exact view that the store has. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.doctor import cures
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.podman.composefs import NAIVE_DIFF_OFF
from podman_cvmfs.util.words import counted


def exact(facts: Facts) -> Iterator[Finding]:
    """The images that the store shows exactly."""
    images, why = facts.contents.exact, facts.not_exact
    if not images or not why:
        return
    found = f"{counted(images, 'image')} in the exact view; {why}"
    if why == NAIVE_DIFF_OFF:
        yield Finding(CONDITIONS["exact-loses-data"], found, cures.setup(facts, "--exact"))
    else:
        yield Finding(CONDITIONS["exact-unusable"], found, cures.sync(facts))
