# SPDX-License-Identifier: Apache-2.0
"""Judges whether podman here can be given the exact view that the store has. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from podman_cvmfs.doctor import cures
from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Finding
from podman_cvmfs.errors import printable
from podman_cvmfs.podman.composefs import NAIVE_DIFF_OFF
from podman_cvmfs.util.words import counted


def exact(facts: Facts) -> Iterator[Finding]:
    """The images that the store shows exactly, and what was made of images that it showed so."""
    images, why, left = facts.contents.exact, facts.not_exact, facts.left_exact
    loses = CONDITIONS["exact-loses-data"]
    if images and why:
        found = f"{counted(images, 'image')} in the exact view; {why}"
        if why == NAIVE_DIFF_OFF:
            yield Finding(loses, found, cures.setup(facts, "--exact"))
        else:
            # That other sessions lose data is said in the same words.
            name = "exact-loses-data" if NAIVE_DIFF_OFF in why else "exact-unusable"
            yield Finding(CONDITIONS[name], found, cures.sync(facts))
    elif left and why == NAIVE_DIFF_OFF:
        # These keep what they mount.
        found = f"{counted(len(left), 'container or image', 'containers or images')}, such as "
        found += f"{printable(left[0])}, made of images in the exact view; {why}"
        yield Finding(loses, found, cures.setup(facts, "--exact"))
