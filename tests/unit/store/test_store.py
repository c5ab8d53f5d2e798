# SPDX-License-Identifier: Apache-2.0
"""The store on disk: what is written, what is refused, what an error leaves behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.store import layout
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.store import Store
from tests.support.small_store import put
from tests.support.trees import snapshot


def test_what_podman_opens(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert put(store, "ab")
    for name in ("overlay-layers/layers", "overlay-images/images"):
        assert (tmp_path / f"store/{name}.json").stat().st_size > 2
        assert len((tmp_path / f"store/{name}.lock").read_bytes()) == layout.TOKEN_BYTES
    content = read_store(store.path)
    assert content is not None and len(content.images) == 2 and len(content.layers) == 3
    for layer_id, layer in content.layers.items():
        directory = tmp_path / "store/overlay" / layer_id
        link = (directory / "link").read_text()
        assert os.readlink(tmp_path / "store/overlay/l" / link) == f"../{layer_id}/diff"
        assert not os.listdir(directory / "diff")
        assert (directory / "diff").stat().st_mode & 0o7777 == 0o555
        shown = [tmp_path / "store/overlay" / each / "diff" for each in layer.lowers or ()]
        if shown:
            lower = (directory / "lower").read_text().split(":")
            overlay = tmp_path / "store/overlay"
            assert [os.readlink(overlay / each) for each in lower] == [
                f"../{each}/diff" for each in layer.lowers or ()
            ]
            mark = (shown[0] / ".cvmfscatalog").lstat()
            assert stat.S_ISCHR(mark.st_mode) and mark.st_rdev == 0
            assert os.path.isabs(os.readlink(shown[1]))
        else:
            assert not os.listdir(directory / "empty")
    for image_id in content.images:
        names = os.listdir(tmp_path / "store/overlay-images" / image_id)
        assert len(names) == 2 and "manifest" in names


def test_everybody_can_read_it_and_nobody_else_write_it(tmp_path: Path) -> None:
    put(Store(str(tmp_path / "store")), "ab")
    for directory, names, files in os.walk(tmp_path / "store"):
        for name in [*names, *files]:
            mode = os.lstat(os.path.join(directory, name)).st_mode
            if stat.S_ISDIR(mode):
                assert mode & 0o7777 in (0o755, 0o555), name
            elif stat.S_ISREG(mode):
                # Whoever may read our own lock may hold it.
                assert mode & 0o7777 == (0o600 if name == "sync.lock" else 0o644), name


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "abc")
    put(store, "bc", now=2000)
    content = read_store(store.path)
    assert content is not None
    assert content.retired_entries and any(layer.retired for layer in content.layers.values())
    before = snapshot(tmp_path)
    with store.opened() as current:
        assert current == content
        assert not store.replace(current, (), ())
    assert snapshot(tmp_path) == before


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert put(store, "ab")
    before = snapshot(tmp_path)
    assert not put(store, "ab", now=5000)
    assert snapshot(tmp_path) == before


def test_a_change_shares_what_stays_and_renews_the_tokens(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "ab")
    pool = tmp_path / "store" / layout.POOL_LAYERS
    before = {name: (pool / name).stat().st_ino for name in os.listdir(pool)}
    lock = tmp_path / "store/overlay-images/images.lock"
    token, inode = lock.read_bytes(), lock.stat().st_ino
    put(store, "abc")
    after = {name: (pool / name).stat().st_ino for name in os.listdir(pool)}
    assert before.items() < after.items()
    assert lock.read_bytes() != token
    assert lock.stat().st_ino == inode, "podman's processes lock an inode, so it must stay"


def test_only_this_generation_and_the_last_are_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    for letters in ("a", "ab", "abc", "ab"):
        put(store, letters)
    assert sorted(os.listdir(tmp_path / "store" / layout.GENERATIONS)) == ["3", "4"]


@pytest.mark.usefixtures("as_root")
def test_overlayfs_holds_no_whiteouts(tmp_path: Path) -> None:
    """As a container's root, without a volume for the store."""
    mount = (
        'cd "$1"; shift; mkdir top merged; mount -t tmpfs tmpfs top; mkdir lower top/u top/w;'
        "mount -t overlay -o lowerdir=lower,upperdir=top/u,workdir=top/w overlay merged;"
        'exec "$@"'
    )
    change = (
        "import sys\nfrom tests.unit.store.test_store import *\n"
        "try: put(Store(sys.argv[1]), 'abc')\n"
        "except StoreError as err: print(err.message, err.hint, sep='\\n')"
    )
    argv = ["unshare", "--mount", "sh", "-ec", mount, "sh", str(tmp_path), sys.executable, "-c"]
    done = subprocess.run(
        [*argv, change, tmp_path / "merged/store"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )
    message, hint = done.stdout.splitlines()
    assert message.startswith("the file system can't hold whiteouts (character devices 0:0): ")
    assert f"({tmp_path}/merged/store/pool/" in message
    assert "volume" in hint


@pytest.mark.parametrize("path", ["/a:b", "/a,b", '/a"b', "/a\\b", "/a\nb"])
def test_paths_that_podman_cannot_mount(path: str) -> None:
    with pytest.raises(InputError, match="can't use a store whose path holds"):
        Store(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),
        ("state.json", b"[]"),
        ("state.json", b'{"format": 99}'),
        ("overlay-images/images.json", b'[{"id": "x"}]'),
        ("overlay-images/images.json", b"{}\xff"),
        ("overlay-layers/layers.json", b'[{"id": "x"}]'),
        ("overlay-layers/layers.json", b"7"),
    ],
)
def test_a_broken_store_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    (tmp_path / "store" / layout.CURRENT / name).write_bytes(content)
    with pytest.raises(StoreError, match="store") as caught:
        put(store, "ab")
    # Never to remove it: podman fails while a store that it is told of is missing.
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f": podman-cvmfs verify --repair --store {store.path}")


def test_link_names_are_short_and_differ() -> None:
    names = {layout.link_name(f"{number:08x}{0:056x}") for number in range(1000)}
    assert all(len(name) == 13 and name.isalnum() for name in names)
    assert len(names) == 1000


def test_synthetic_digests_differ_from_layer_to_layer() -> None:
    assert layout.synthetic_diff_id("a" * 64) != layout.synthetic_diff_id("b" * 64)


def test_state_is_part_of_what_counts_as_changed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    with store.opened() as current:
        assert store.replace(replace(current, policy="other"), (), ())
    content = read_store(store.path)
    assert content is not None and content.policy == "other"


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "ab")
    directory = os.path.realpath(f"{store.path}/{layout.CURRENT}")
    subprocess.run(["sha256sum", "--check", "--strict", layout.SUMS], cwd=directory, check=True)


def test_the_same_content_can_be_written_anew(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "ab")
    with store.opened() as current:
        assert store.replace(current, (), (), anew=True)
    assert os.readlink(f"{store.path}/{layout.CURRENT}") == "generations/2"
    assert read_store(store.path) == current
