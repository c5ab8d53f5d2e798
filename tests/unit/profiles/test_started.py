# SPDX-License-Identifier: Apache-2.0
"""The image of a container's layer, and the lock of what is done once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.profiles.started import image_of_layer, only_once
from podman_cvmfs.store.layout import link_name
from tests.support.world import World, app


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make("repository", 2)
    made.sync()
    return made


def _layer(root: Path, *links: str) -> str:
    """The directory of a container's layer above these."""
    directory = root / "layer"
    directory.mkdir()
    (directory / "lower").write_text(":".join(f"l/{link}" for link in links))
    return str(directory)


def test_the_image_is_found_by_its_top_layer(world: World, tmp_path: Path) -> None:
    image = world.stored(app(1))
    top, *below = world.layers(1)
    pieces = [link_name(piece) for piece in top.lowers or ()]
    # An image that was built on it has a layer of its own on top.
    layer = _layer(tmp_path, "A" * 26, top.link, *pieces, *(each.link for each in below))
    assert image_of_layer(world.store.path, world.content, layer) == image


def test_other_containers_have_no_image_of_the_store(world: World, tmp_path: Path) -> None:
    store, content = world.store.path, world.content
    assert image_of_layer(store, content, str(tmp_path / "none")) is None
    assert image_of_layer(store, content, _layer(tmp_path, "A" * 26, "../../..", "\0")) is None
    os.unlink(tmp_path / "layer/lower")
    os.mkfifo(tmp_path / "layer/lower")
    assert image_of_layer(store, content, str(tmp_path / "layer")) is None


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
