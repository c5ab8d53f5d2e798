# SPDX-License-Identifier: Apache-2.0
"""Changes that a full disk, an interrupt or a kill cuts off, and the change after them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import StoreError
from podman_cvmfs.store import layout
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.store import Store
from tests.support.small_store import put
from tests.support.trees import snapshot


@pytest.mark.parametrize("first", ["", "ab"])
@pytest.mark.parametrize("call", ["symlink", "mkdir", "link", "write", "mknod", "rename"])
def test_a_full_disk_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, first: str
) -> None:
    """The call fails at its first, second, .. use until one change gets through."""
    store = Store(str(tmp_path / "store"))
    if first:
        put(store, first)
    before = snapshot(tmp_path)
    real = getattr(os, call)
    survived = 0
    while True:
        left = survived

        def failing(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, call, failing)
        try:
            assert put(store, "abc")
            break
        except StoreError as err:
            assert "No space left on device" in err.message
            assert str(tmp_path / "store") in err.message
        finally:
            monkeypatch.setattr(os, call, real)
        assert snapshot(tmp_path) == before
        survived += 1
    assert survived > 0


def test_an_interrupt_after_the_flip_keeps_the_new_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")

    real = os.rename

    def interrupted(source: str, target: str) -> None:
        real(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(store, "ab")
    content = read_store(store.path)
    assert content is not None and len(content.images) == 2
    assert (tmp_path / "store/overlay-images/images.json").exists()
    monkeypatch.undo()
    os.umask(0o022)
    assert put(store, "abc")


def test_leftovers_of_a_killed_sync_go_with_the_next_change(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    base = tmp_path / "store"
    (base / layout.POOL_LAYERS / "half-written").mkdir()
    (base / layout.GENERATIONS / "7" / "overlay").mkdir(parents=True)
    (base / f"{layout.CURRENT}.new").symlink_to("generations/7")
    put(store, "ab")
    assert not (base / layout.POOL_LAYERS / "half-written").exists()
    assert not os.path.lexists(base / f"{layout.CURRENT}.new")
    assert os.readlink(base / layout.CURRENT) == "generations/2"


def test_the_tokens_are_new_before_the_records_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, a sync must not leave running processes with what they know."""
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    locks = [tmp_path / "store" / layout.LOCKS / name for name in layout.LOCK_FILES]
    before = [lock.read_bytes() for lock in locks]
    real = os.rename
    seen: list[bytes] = []

    def rename(source: str, target: str) -> None:
        seen.extend(lock.read_bytes() for lock in locks)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    put(store, "ab")
    assert len(seen) == 2 and not set(seen) & set(before)


def test_leftovers_of_a_sync_killed_after_the_flip_go_though_nothing_changes(
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    before = snapshot(tmp_path)
    (tmp_path / "store" / layout.POOL_IMAGES / "old").mkdir()
    (tmp_path / "store" / layout.GENERATIONS / "0").mkdir()
    link = tmp_path / "store/overlay-images"
    link.rename(link.with_name("overlay-images.away"))
    (tmp_path / "store/overlay-images.away").unlink()
    assert not put(store, "a")
    after = snapshot(tmp_path)
    assert set(after) == set(before) and link.is_dir()
