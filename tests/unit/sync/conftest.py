# SPDX-License-Identifier: Apache-2.0
"""The worlds and repositories of whole syncs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import Server, serving
from tests.support.many import make_repository
from tests.support.settled import age
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


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository in which nothing has happened for a while."""
    root = make_repository(tmp_path / "repository", 3, layers=2, shared=1)
    age(root)
    return root


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers as the test tells it."""
    with serving() as made:
        yield made
