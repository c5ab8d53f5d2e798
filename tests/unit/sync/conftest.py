# SPDX-License-Identifier: Apache-2.0
"""The world that whole syncs work in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world without repositories."""
    before = os.umask(0o022)
    yield World(tmp_path)
    os.umask(before)


@pytest.fixture
def four_images(world: World) -> Path:
    """The world's repository, of four images."""
    return world.make("repository", 4)
