# SPDX-License-Identifier: Apache-2.0
"""The store on disk: what is written, what is refused, what an error leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.make import candidate_of, make_plan
from podman_cvmfs.plan.retirement import Retention
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store import layout
from podman_cvmfs.store.reader import read_store
from podman_cvmfs.store.records import Node
from podman_cvmfs.store.store import Store
from tests.support.processes import started
from tests.support.trees import snapshot
from tests.unit.plan.test_plan import image


def put(store: Store, letters: str, now: int = 1000) -> bool:
    """Make the store hold one image for each letter, with that letter's layer on a common base."""
    images = [
        replace(image(letter, f"z{letter}"), skeleton=Skeleton((Node(""), Node(letter))))
        for letter in letters
    ]
    candidates = {
        each.source_id.hex: candidate_of(each, view_of(each, Policy()), "/r") for each in images
    }
    names = {
        parse_repository_path(f"r/{letter}:1"): each.source_id.hex
        for letter, each in zip(letters, images)
    }
    with store.opened() as current:
        plan = make_plan(current, names, candidates, "p", Retention(now))
        return store.replace(plan.content, plan.layers, plan.images, plan.pieces)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


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


def test_two_syncs_at_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    code = (
        "import sys\nfrom podman_cvmfs.store.store import Store\n"
        "with Store(sys.argv[1]).opened():\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    with started(
        [sys.executable, "-c", code, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        with pytest.raises(StoreError, match="another sync is at work"):
            put(store, "ab")
        other.communicate(b"", timeout=60)
    assert put(store, "ab")


def test_a_reader_of_podmans_holds_the_flip_up(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'rb')\nfcntl.lockf(file, fcntl.LOCK_SH)\n"
        "print('in', flush=True)\nsys.stdin.read()\n"
    )
    lock = tmp_path / "store/overlay-layers/layers.lock"
    with started(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"in\n"
        with open(lock, "r+b") as file, pytest.raises(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        reader.communicate(b"", timeout=60)
    assert put(store, "ab")


def test_a_podman_that_holds_one_lock_may_wait_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread of a podman service reads images while another waits for layers, which we hold."""
    store = Store(str(tmp_path / "store"))
    put(store, "a")
    code = (
        "import fcntl, sys, threading, time\nlayers, images = (open(p) for p in sys.argv[1:])\n"
        "fcntl.lockf(images, fcntl.LOCK_SH)\nprint('in', flush=True)\nsys.stdin.readline()\n"
        "other = threading.Thread(target=fcntl.lockf, args=(layers, fcntl.LOCK_SH))\n"
        "other.start()\ntime.sleep(1)\nfcntl.lockf(images, fcntl.LOCK_UN)\nother.join()\n"
    )
    paths = [tmp_path / f"store/locks/{name}.lock" for name in ("layers", "images")]
    seen = []
    real = fcntl.lockf
    with started(
        [sys.executable, "-c", code, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as podman:
        pipe = podman.stdin
        assert pipe is not None and podman.stdout is not None
        assert podman.stdout.readline() == b"in\n"

        def lockf(descriptor: int, kind: int, *rest: int) -> None:
            is_layers = os.readlink(f"/proc/self/fd/{descriptor}") == str(paths[0])
            try:
                real(descriptor, kind, *rest)
            except OSError as err:
                seen.append(err.errno)
                raise
            if is_layers and kind & fcntl.LOCK_EX and not pipe.closed:
                pipe.close()
                time.sleep(0.3)

        monkeypatch.setattr(fcntl, "lockf", lockf)
        assert put(store, "ab")
        assert podman.wait(20) == 0
    assert set(seen) == {errno.EAGAIN}


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
