# SPDX-License-Identifier: Apache-2.0
"""The image of a container's layer, and the lock of what is done once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.profiles.started import image_of_link, only_once
from tests.support.world import World, app


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make("repository", 2)
    made.sync()
    return made


def test_the_image_is_found_by_its_top_layer(world: World) -> None:
    top, *below = world.layers(1)
    store, content = world.store.path, world.content
    assert image_of_link(store, content, top.link) == world.stored(app(1))
    for name in (*(each.link for each in below), "A" * 13, "", "..", "../../..", "\0", "x" * 300):
        assert image_of_link(store, content, name) is None


def test_only_one_at_a_time(world: World) -> None:
    store, image, other = world.store.path, world.stored(app(0)), world.stored(app(1))
    before = sorted(Path(store).rglob("*"))
    with only_once(store, image) as first, only_once(store, image) as second:
        assert first and not second
        with only_once(store, other) as third:
            assert third
    with only_once(store, image) as again:
        assert again
    assert sorted(Path(store).rglob("*")) == before


def test_an_image_that_has_gone_is_not_read(world: World) -> None:
    image = world.stored(app(0))
    os.rename(f"{world.store.path}/pool/images/{image.entry}", world.root / "gone")
    with only_once(world.store.path, image) as first:
        assert not first
