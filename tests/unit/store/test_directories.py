# SPDX-License-Identifier: Apache-2.0
"""Directories that may become a store, and directories that may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from podman_cvmfs.store import layout
from podman_cvmfs.store.store import Store
from tests.support.small_store import put
from tests.support.trees import snapshot


def test_a_directory_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match="is not a store of podman-cvmfs: it holds 'precious'"):
        put(Store(str(tmp_path)), "a")
    with pytest.raises(StoreError, match="is not a directory"):
        put(Store(str(tmp_path / "precious")), "a")
    assert snapshot(tmp_path) == before


def test_an_empty_directory_may_become_a_store(tmp_path: Path) -> None:
    assert put(Store(str(tmp_path)), "a")


def test_what_podman_makes_in_an_empty_store_gives_way(tmp_path: Path) -> None:
    """Run by root, podman makes the lock file that it looks for."""
    (tmp_path / "overlay-images").mkdir(mode=0o700)
    (tmp_path / "overlay-images/images.lock").touch()
    assert put(Store(str(tmp_path)), "a")
    assert os.readlink(tmp_path / "overlay-images") == f"{layout.CURRENT}/overlay-images"


def test_images_of_another_kind_of_store_do_not_give_way(tmp_path: Path) -> None:
    (tmp_path / "overlay-images").mkdir()
    (tmp_path / "overlay-images/images.lock").touch()
    (tmp_path / "overlay-images/images.json").write_text("[]")
    with pytest.raises(StoreError, match=r"File exists .*/overlay-images\)"):
        put(Store(str(tmp_path)), "a")
    assert sorted(os.listdir(tmp_path / "overlay-images")) == ["images.json", "images.lock"]
    assert not os.path.lexists(tmp_path / layout.CURRENT)
