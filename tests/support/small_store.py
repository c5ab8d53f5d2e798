# SPDX-License-Identifier: Apache-2.0
"""Images of one letter each, put into a store."""

from __future__ import annotations

from dataclasses import replace

from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.make import make_plan, storable_image
from podman_cvmfs.plan.retirement import Retention
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.records import Node
from podman_cvmfs.store.store import Store
from tests.support.resolved import image


def put(store: Store, letters: str, now: int = 1000) -> bool:
    """Make the store hold one image for each letter, with that letter's layer on a common base."""
    images = [
        replace(image(letter, f"z{letter}"), skeleton=Skeleton((Node(""), Node(letter))))
        for letter in letters
    ]
    storable = {
        each.source_id.hex: storable_image(each, view_of(each, Policy()), "/r") for each in images
    }
    names = {
        parse_repository_path(f"r/{letter}:1"): each.source_id.hex
        for letter, each in zip(letters, images)
    }
    with store.opened() as current:
        plan = make_plan(current, names, storable, "p", Retention(now))
        return store.replace(plan.content, plan.layers, plan.images, plan.pieces)
