# SPDX-License-Identifier: Apache-2.0
"""Set-up makes a store, or opens one to users."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from podman_cvmfs.setup.store import can_be_opened, ensure_store, is_store, open_store
from tests.support.cli import Target
from tests.support.many import make_repository
from tests.support.set_up import tree_of


@pytest.mark.parametrize("shared", [False, True])
def test_store_is_made_empty_and_valid_once(tmp_path: Path, shared: bool) -> None:
    path = str(tmp_path / "deep/store")
    assert ensure_store(path, shared)
    assert is_store(path)
    modes = [os.stat(each).st_mode & 0o777 for each in (path, tmp_path / "deep")]
    assert modes == [0o755 if shared else 0o700, 0o755]
    before = tree_of(tmp_path)
    assert not ensure_store(path, not shared)
    assert tree_of(tmp_path) == before


def test_only_an_empty_store_is_opened_without_a_sync(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    ensure_store(path)
    assert can_be_opened(path)
    open_store(path)
    assert not can_be_opened(path)
    filled = make_repository(tmp_path / "repository", 1)
    target = Target(filled, tmp_path / "filled", tmp_path / "cache")
    target.sync("--offline")
    target.store.chmod(0o700)
    with pytest.raises(StoreError) as caught:
        can_be_opened(str(target.store))
    assert f"sync --shared --store {target.store}" in str(caught.value.hint)
    target.store.chmod(0o755)
    assert not can_be_opened(str(target.store))
