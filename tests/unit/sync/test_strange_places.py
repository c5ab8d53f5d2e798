# SPDX-License-Identifier: Apache-2.0
"""Root works in no place of somebody else's, who could lead it anywhere: attacks as root, on the
directories of a real user."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError
from tests.support.cli import Target, podman_cvmfs, succeed
from tests.support.intruder import Intruder
from tests.support.many import make_repository
from tests.support.processes import started
from tests.support.trees import snapshot

_ALICE = Intruder(4343)

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a user's directory, a repository, and what the user would like to reach."""
    with tempfile.TemporaryDirectory(prefix="strange-") as path:
        os.chmod(path, 0o755)
        root = Path(path)
        make_repository(root / "repository", 2, layers=2, shared=1)
        (root / "alice").mkdir()
        os.chown(root / "alice", _ALICE.uid, _ALICE.uid)
        for name in ("images/vm1", "layers"):
            (root / "victim" / name).mkdir(parents=True)
            (root / "victim" / name / "file").write_text("precious")
        yield root


def _refused(*argv: str | Path) -> None:
    done = podman_cvmfs(*argv)
    assert done.returncode == InputError.exit_code, done.stderr
    assert "root doesn't work in" in done.stderr and "run this as" in done.stderr


def test_root_works_on_no_store_of_a_user(place: Path) -> None:
    alice = place / "alice"
    mine = Target(place / "repository", alice / "deep/store", place / "cache")
    before = snapshot(place)
    _refused(*mine.argv("--offline"))
    assert snapshot(place) == before
    # Root's own, below a directory of the user's.
    own = Target(place / "repository", place / "own/store", place / "cache")
    own.sync("--offline")
    (place / "own").rename(alice / "own")
    moved = Target(place / "repository", alice / "own/store", place / "cache")
    (moved.store / "overlay-images").unlink()
    before = snapshot(place)
    _refused(*moved.argv("--offline"))
    _refused("prune", "--grace=0", "--store", moved.store)
    _refused("verify", "--repair", "--store", moved.store, "--repository", place / "repository")
    assert snapshot(place) == before


def test_root_works_on_no_cache_of_a_user(place: Path) -> None:
    cache = place / "alice/cache"
    archive, other = place / "blobs.tar", BlobCache(str(place / "other"))
    other.put(b"{}")
    succeed("cache", "export", archive, "--cache", other.directory)
    assert _ALICE.sh(f"mkdir {cache}; ln -s {place}/victim/layers {cache}/stamps")
    before = snapshot(place)
    _refused("cache", "import", archive, "--cache", cache)
    _refused(*Target(place / "repository", place / "store", cache).argv("--offline"))
    assert snapshot(place) == before


def test_stamps_are_removed_through_no_link(place: Path) -> None:
    """Not even in a cache of root's."""
    cache = place / "cache"
    archive, other = place / "blobs.tar", BlobCache(str(place / "other"))
    other.put(b"{}")
    succeed("cache", "export", archive, "--cache", other.directory)
    cache.mkdir()
    (cache / "stamps").symlink_to(place / "victim/layers")
    succeed("cache", "import", archive, "--cache", cache)
    assert (place / "victim/layers/file").exists()


def test_a_user_exchanges_the_pool_while_root_waits(place: Path) -> None:
    """Alice's own store, closed to nobody; her process exchanges the pool again and again."""
    store = place / "alice/store"
    succeed(*Target(place / "repository", place / "store", place / "cache").argv("--offline"))
    subprocess.run(["cp", "-a", place / "store", store], check=True)
    subprocess.run(["chown", "-hR", f"{_ALICE.uid}:{_ALICE.uid}", store], check=True)
    before = snapshot(place / "victim")
    script = (
        f"cd {store}; mv pool real; while :; do "
        f"ln -sfn {place}/victim pool; rm pool; mv real pool; mv pool real; done"
    )
    with started(_ALICE.argv("sh", "-c", script), cwd="/"):
        for _ in range(5):
            target = Target(place / "repository", store, place / "cache")
            _refused(*target.argv("--offline", "--view=layers"))
    assert snapshot(place / "victim") == before


@pytest.mark.parametrize("name", ["state.json", "overlay-layers/layers.json"])
@pytest.mark.parametrize("kind", ["FIFO", "link"])
def test_a_special_file_in_a_store_is_not_read(place: Path, name: str, kind: str) -> None:
    target = Target(place / "repository", place / "store", place / "cache")
    target.sync("--offline")
    file = target.store / ".current" / name
    file.unlink()
    if kind == "FIFO":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    for argv in (
        target.argv("--offline", "--view=layers"),
        ["prune", "--store", str(target.store)],
    ):
        done = podman_cvmfs(*argv, prefix=["prlimit", f"--as={4 << 30}", "timeout", "60"])
        assert done.returncode == 5, done.stderr
        assert f"can't read {file.parent}" in done.stderr and "Traceback" not in done.stderr
    succeed("verify", "--repair", *target.argv("--offline")[1:])
