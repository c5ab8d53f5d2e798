# SPDX-License-Identifier: Apache-2.0
"""A sync of a repository that means harm: it ends, soon and with a clear word, writes into store
and cache alone, shows nothing from outside the repository, and keeps all other images.

Each case is synced in one way; ``tests/hostile.sh`` tries all ways.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

import tests.crash.imports  # noqa: F401
from podman_cvmfs.cli.main import main
from tests.crash.calls import MODIFYING, Call
from tests.crash.supervise import SKIP, Verdict, supervise
from tests.fuzz.hostile import NAME, VICTIM, Scene, Spoil, spoils
from tests.support.cli import Target
from tests.support.many import REGISTRY, make_repository
from tests.support.picture import documents, faults
from tests.support.trees import snapshot

_IMAGES = 4
_MEMORY = 2 << 30
_SECONDS = 20
_CODES = (0, 4, 7)
#: Under what was laid out before there are other files now: all of it is withdrawn.
_FORGED = (".layers outside", ".flat outside")
_KEPT = {f"{REGISTRY}/project/app{n}:{n}" for n in range(_IMAGES) if n != VICTIM}


#: Whether to sync as root, and the options.
_WAYS = {
    "auto": (True, ()),
    "layers": (True, ("--view=layers", "--reuse=all")),
    "user": (False, ()),
    "user-layers": (False, ("--view=layers",)),
}
_USER = 12345
_ALL_WAYS = "PODMAN_CVMFS_TEST_ALL_WAYS"


class _Place:
    """A directory with a repository nobody has spoiled, and the store of all but one image, made
    where the tests use copies of it, since links in the store are absolute."""

    def __init__(self, root: Path, as_root: bool, options: Sequence[str]) -> None:
        self.root = root / "spoiled"
        self.target = Target(
            self.root / "repository", self.root / "own/store", self.root / "own/cache"
        )
        self._as_root = as_root
        self._options = options
        make_repository(self.target.repository, _IMAGES, layers=3, shared=1)
        (self.root / "outside").mkdir()
        (self.root / "outside/secret").write_text("not for containers")
        (self.root / "own").mkdir()
        if not as_root:
            os.chown(self.root / "own", _USER, _USER)
        first = supervise(self.command(*sorted(_KEPT)))
        assert first.code == 0, first.output
        self._clean = self.root.rename(root / "clean")

    def command(self, *names: str) -> Callable[[], NoReturn]:
        """A function that syncs."""

        def run() -> NoReturn:
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            if not self._as_root:
                os.environ["HOME"] = str(self.root / "own")
                os.setgroups([])
                os.setgid(_USER)
                os.setuid(_USER)
            sys.argv = ["podman-cvmfs", *self.target.argv("--offline", *self._options, *names)]
            main()

        return run

    def reset(self) -> None:
        """Make all as it was at first."""
        subprocess.run(["rm", "-rf", self.root], check=True)
        subprocess.run(["cp", "-a", self._clean, self.root], check=True)


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, _Place]]:
    """A place for each way of syncing."""
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="hostile-") as path:
        os.chmod(path, 0o755)
        made = {}
        for name, (as_root, options) in _WAYS.items():
            (Path(path) / name).mkdir()
            made[name] = _Place(Path(path) / name, as_root, options)
        yield made


def _cases() -> Iterator[Any]:
    for number, (name, spoil) in enumerate(spoils()):
        ways = list(_WAYS)
        for way in ways if os.environ.get(_ALL_WAYS) else [ways[number % len(ways)]]:
            yield pytest.param(way, name, spoil, id=f"{way}-{name}")


#: podman makes these when a sync asks for its version.
_PODMANS = ("/run/user/", "/tmp/podman-run-")


@pytest.mark.parametrize(("way", "name", "spoil"), list(_cases()))
def test_a_hostile_repository_harms_nothing(
    places: dict[str, _Place], way: str, name: str, spoil: Spoil
) -> None:
    place = places[way]
    place.reset()
    target = place.target
    outside = place.root / "outside"
    spoil(Scene(target.repository, outside))
    before = snapshot(outside)
    stray: list[str] = []

    def decide(call: Call) -> Verdict:
        path = call.path()
        if call.modifies and call.name != "close" and path.startswith("/"):
            ours = (f"{target.store}", f"{target.cache}", "/dev/null")
            inside = path.startswith((*ours, *_PODMANS))
            if not inside:
                stray.append(str(call))
        return SKIP if call.name == "syncfs" else None

    outcome = supervise(place.command(), calls=MODIFYING, decide=decide, seconds=_SECONDS)
    assert not outcome.hung, outcome.output
    assert outcome.code in _CODES and "Traceback" not in outcome.output, outcome.output
    assert all(line.isprintable() for line in outcome.output.splitlines()), outcome.output
    assert len(outcome.output) < 1_000_000
    assert stray == []
    assert snapshot(outside) == before
    assert faults(target.store) == []
    images = json.loads(documents(target.store)[0])
    names = {name for image in images for name in image["names"]}
    assert names >= (set() if name in _FORGED else _KEPT), outcome.output
    assert names or "is a symbolic link, not a directory: it is not followed" in outcome.output
    assert all(name.isprintable() for name in names)
    _check_layers(target)


def _check_layers(target: Target) -> None:
    """No layer of the store leads to what is not the repository's."""
    for layer in (target.store / "overlay").iterdir():
        for directory, names, files in os.walk(layer if layer.name != "l" else ""):
            for name in (*names, *files):
                path = os.path.join(directory, name)
                if os.path.islink(path):
                    assert name.startswith("diff")
                    real = os.path.realpath(path)
                    assert real.startswith(f"{target.repository}/"), f"{path} leads to {real}"


@pytest.mark.parametrize("way", _WAYS)
def test_the_clean_repository_syncs_whole(places: dict[str, _Place], way: str) -> None:
    """What the others are compared with: no spoiling, no failure."""
    place = places[way]
    place.reset()
    outcome = supervise(place.command())
    assert outcome.code == 0, outcome.output
    images = json.loads(documents(place.target.store)[0])
    names = {name for image in images for name in image["names"]}
    assert names == _KEPT | {NAME}
