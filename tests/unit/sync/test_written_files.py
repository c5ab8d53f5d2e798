# SPDX-License-Identifier: Apache-2.0
"""The files a sync writes: whose they are, who may read them, and that no link leads elsewhere."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import tests.crash.imports  # noqa: F401
from podman_cvmfs.cli.main import main
from tests.crash.supervise import SKIP, Outcome, supervise
from tests.support.cli import Target
from tests.support.many import make_repository
from tests.support.trees import snapshot

_USER = 12345


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="written-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def target(place: Path) -> Target:
    """A repository of root's, and a user's own places for the rest."""
    os.umask(0o022)
    make_repository(place / "repository", 3, layers=2, shared=1)
    (place / "own").mkdir()
    return Target(place / "repository", place / "own/store", place / "own/cache")


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("uid", [0, _USER])
@pytest.mark.parametrize("umask", [0, 0o077, 0o777], ids=oct)
@pytest.mark.parametrize("shared", [False, True])
def test_files_belong_to_the_caller_and_a_shared_store_can_be_read(
    target: Target, uid: int, umask: int, shared: bool
) -> None:
    """A store that isn't shared is closed by its own directory alone."""
    os.chown(target.store.parent, uid, uid)

    def become() -> None:
        os.umask(umask)
        os.environ["HOME"] = str(target.store.parent)
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    option = "--shared" if shared else "--private"
    outcome = _run(*target.argv("--offline", option), before=become)
    assert outcome.code == 0, outcome.output
    if not shared:
        assert stat.S_IMODE(target.store.stat().st_mode) == 0o700
        target.store.chmod(0o755)
    seen = 0
    for top in (target.store, target.cache):
        for directory, names, files in os.walk(top):
            if "/diff" in directory:
                continue  # its attributes are the image's
            for name in (".", *names, *files):
                attributes = os.lstat(f"{directory}/{name}")
                mode = stat.filemode(attributes.st_mode)
                path = f"{directory}/{name} {mode}"
                assert (attributes.st_uid, attributes.st_gid) == (uid, uid), path
                local = name.startswith("diff")
                if name == "sync.lock":
                    assert mode == "-rw-------", path
                    continue
                assert local or mode in ("-rw-r--r--", "drwxr-xr-x", "lrwxrwxrwx"), path
                seen += 1
    assert seen > 50


def _run(*argv: str, before: Callable[[], None] = lambda: None) -> Outcome:
    """Run ``podman-cvmfs ARGV``, after ``before``, in a process of its own."""

    def run() -> NoReturn:
        before()
        sys.argv = ["podman-cvmfs", *argv]
        main()

    # The kernel outlives the process: to wait for the disk proves nothing here.
    outcome = supervise(run, calls=["syncfs"], decide=lambda call: SKIP)
    assert not outcome.hung and "Traceback" not in outcome.output, outcome.output
    return outcome


def _link_to(name: str) -> Callable[[Path, Path], None]:
    return lambda path, outside: path.symlink_to(outside / name)


_PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "link to a file": _link_to("file"),
    "link to a directory": _link_to("directory"),
    "link to nothing": _link_to("nothing"),
    "FIFO": lambda path, outside: os.mkfifo(path),
}
_PLACES = (
    *("store/locks", "store/generations", "store/pool", "store/pool/layers", "store/pool/images"),
    *("store/locks/images.lock", "store/locks/layers.lock", "store/locks/sync.lock"),
    *("store/.current", "store/.current.new", "store/overlay", "store/overlay-images"),
    *("store/generations/7", "store/pool/layers/x", "store/pool/images/x"),
    *("cache/sha256", "cache/stamps", "cache/manifests", "cache/layer-markers"),
)


@pytest.mark.parametrize("kind", _PLANTED)
@pytest.mark.parametrize("where", _PLACES)
def test_nothing_is_written_through_what_others_have_planted(
    target: Target, where: str, kind: str
) -> None:
    outside = target.repository.parent / "outside"
    (outside / "directory").mkdir(parents=True)
    (outside / "directory/file").write_text("precious")
    (outside / "file").write_text("precious")
    planted = target.store.parent / where
    planted.parent.mkdir(parents=True)
    _PLANTED[kind](planted, outside)
    before = snapshot(outside)
    first = _run(*target.argv("--offline"))
    assert snapshot(outside) == before
    # It gives way, or is refused until somebody has it removed.
    assert first.code in (0, 5), first.output
    if first.code:
        assert f"{target.store.parent}/{where.split('/')[0]}" in first.output
        if where.startswith("store/"):
            _run("verify", "--repair", "--store", str(target.store))
        else:
            planted.unlink()
    again = _run(*target.argv("--offline"))
    assert again.code == 0, again.output
    assert snapshot(outside) == before
