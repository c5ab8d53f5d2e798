# SPDX-License-Identifier: Apache-2.0
"""Images and places for the tests of publishing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.layers import Entry, tar
from tests.support.layouts import Layout
from tests.support.memory_images import Images
from tests.support.unpacking import Unpack, unpack_into


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Files beside the layer that nothing may touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_text("untouched")
    (place / "dir").mkdir()
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a layer is unpacked."""
    place = tmp_path / "layer"
    place.mkdir()
    return place


@pytest.fixture
def do(root: Path) -> Unpack:
    """Unpack entries, or the bytes of a tar, into ``root``."""

    def call(entries: Sequence[Entry] | bytes) -> frozenset[bytes]:
        return unpack_into(root, entries if isinstance(entries, bytes) else tar(entries))

    return call


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty layout."""
    return Layout(tmp_path / "layout")


@pytest.fixture
def images() -> Images:
    """Images in memory."""
    return Images()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that is not there yet."""
    return tmp_path / "repository"
