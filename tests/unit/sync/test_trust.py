# SPDX-License-Identifier: Apache-2.0
"""Which repositories' layers pulls may find, by settings and by what a sync is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.settings.policy import DEFAULT_POLICY, Policy, Reuse
from podman_cvmfs.sync.run import sync
from tests.support.world import World, app


@pytest.fixture
def ours(world: World) -> Path:
    return world.make("ours", 1)


@pytest.fixture
def theirs(world: World) -> Path:
    """A repository with other images, on layers of its own."""
    return world.make("theirs", 2, shared=0)


def trusting(*repositories: Path) -> Policy:
    return replace(DEFAULT_POLICY, reuse_from=tuple(map(str, repositories)))


def offering(world: World) -> set[str]:
    """The repositories of the layers that pulls may find, by digest or by their place in a
    chain."""
    return {
        Path(layer.repository).name
        for layer in world.content.layers.values()
        if layer.shows is None and layer.repository
    }


def test_each_named_repository_offers_its_layers(world: World, ours: Path, theirs: Path) -> None:
    both = (ours, theirs)
    world.sync_from(*both, policy=trusting(*both))
    assert offering(world) == {"ours", "theirs"}
    world.sync_from(*both, policy=trusting(ours))
    assert offering(world) == {"ours"}
    assert world.names.keys() == {app(0), app(1)}
    world.sync_from(*both, policy=trusting())
    assert offering(world) == set()
    world.sync_from(*both, policy=trusting(theirs, ours))
    assert offering(world) == {"ours", "theirs"}


def test_no_layer_is_found_once_reuse_is_none(world: World, ours: Path) -> None:
    """podman looks for layers by their IDs, too: a retired one would be found as long as its grace
    lasts."""
    world.sync_from(ours)
    assert offering(world) == {"ours"}
    report = world.sync_from(ours, policy=replace(DEFAULT_POLICY, reuse=Reuse.NONE))
    assert offering(world) == set()
    assert world.names.keys() == {app(0)} and not report.warnings
    world.sync_from(ours)
    assert offering(world) == {"ours"}


def test_a_store_keeps_its_trust_when_images_are_added_from_elsewhere(
    world: World, ours: Path, theirs: Path
) -> None:
    world.sync_from(ours)
    before = world.content
    world.sync(app(1), repositories=(ours, theirs), policy=trusting())
    assert world.content.policy == before.policy
    assert world.names.keys() == {app(0), app(1)}
    assert offering(world) == {"ours"}
    world.sync(app(0), repositories=(ours, theirs), policy=trusting())
    assert offering(world) == {"ours"}
    assert before.layers.items() <= world.content.layers.items()


def test_the_settings_decide_for_images_that_are_added_too(
    world: World, ours: Path, theirs: Path
) -> None:
    world.sync_from(ours)
    request = world.request(app(1), repositories=(ours, theirs), policy=trusting(theirs))
    sync(replace(request, names_trusted=True))
    assert offering(world) == {"theirs"}


def test_an_image_that_can_not_be_laid_out_without_its_layers_leaves(
    world: World, ours: Path, theirs: Path
) -> None:
    """Its layers would be found as long as it stays."""
    both = (ours, theirs)
    world.sync_from(*both, policy=trusting(theirs))
    for manifest in (theirs / ".metadata").rglob("manifest.json"):
        manifest.write_text("{")
    report = world.sync_from(*both, policy=trusting(ours))
    assert app(1) in report.failed
    assert offering(world) == {"ours"}
    assert app(1) not in world.names
