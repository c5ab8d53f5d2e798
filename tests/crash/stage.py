# SPDX-License-Identifier: Apache-2.0
"""A repository before and after a change, and the stores that syncs make of it.

The change adds images, moves a name to another image and withdraws one: all a sync has to do.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tests.crash.imports  # noqa: F401
from podman_cvmfs.cli.main import main
from tests.crash.supervise import SKIP, supervise
from tests.support.cli import Target, succeed
from tests.support.images import IMAGES, Image, build, push, renamed
from tests.support.native import judged
from tests.support.registry import Registry

#: The time of the syncs, in seconds since 1970, and one past every grace period.
NOW = 1_800_000_000
LATER = NOW + 15 * 24 * 3600

_BEFORE = ["t/single:1", "t/app:1", "t/delete:1", "t/plain:1"]
_ADDED = ["t/same-parent:1", "t/other-parent:1"]
_MOVING = "t/moving:1"
_REMOVED = "t/delete:1"
_BY_NAME = {image.name: image for image in IMAGES}
#: Nobody publishes this one: its layers but the top are those of an image that the change adds.
_ONTO = Image(
    "t/onto:1",
    [*_BY_NAME["t/other-parent:1"].layers, "links"],
    _BY_NAME["t/other-parent:1"].config,
    _BY_NAME["t/other-parent:1"].family,
    _BY_NAME["t/other-parent:1"].prints,
)


@dataclass(frozen=True)
class Scenario:
    """A sync at the time ``now``; ``start`` names the saved state that it begins with."""

    name: str
    start: str
    after: bool
    now: int


SCENARIOS = [
    Scenario("first", "empty", after=False, now=NOW),
    Scenario("change", "before", after=True, now=NOW),
    Scenario("prune", "after", after=True, now=LATER),
]


class Stage:
    """Everything below ``root``.

    ``kept`` are the names that lead to the same image all the time, with what they print;
    ``onto`` is one in the registry that is built on an image that the change adds.
    """

    def __init__(self, root: Path, registry: Registry) -> None:
        self.root = root
        self.registry = registry.address
        self.target = Target(root / "repository", root / "store", root / "cache")
        self._publish(registry)
        self.kept = {
            f"{self.registry}/{name}": _BY_NAME[name].prints for name in _BEFORE if name != _REMOVED
        }
        self.onto = push(build(_ONTO), registry)
        self.onto_prints = _ONTO.prints
        self.empty()
        self._now_after = False
        self._save("empty")
        for scenario in SCENARIOS[:2]:
            self.begin(scenario)
            code, output = self.sync_here(scenario.now)
            assert code == 0, output
            judged(self.target.store)
            self._save("after" if scenario.after else "before")

    def _publish(self, registry: Registry) -> None:
        sources = [push(build(_BY_NAME[name]), registry) for name in [*_BEFORE, *_ADDED]]
        moving = [renamed(build(_BY_NAME[n]), _MOVING) for n in ("t/plain:1", "t/same-parent:1")]
        for built in moving:
            sources.append(push(built, registry))
            urls = [f"http://{source}" for source in sources]
            succeed("publish", *urls, "--repository", self.target.repository)
            sources = []
            name = f"{self.registry}/{_MOVING}"
            state = "after" if built is moving[1] else "before"
            for place in self._places(name):
                saved = self._stash(state, place)
                saved.parent.mkdir(parents=True, exist_ok=True)
                place.rename(saved)
        # As the repository is now, it holds both states but the moving name.
        for state, names in (("before", _ADDED), ("after", [_REMOVED])):
            other = "after" if state == "before" else "before"
            for name in names:
                for place in self._places(f"{self.registry}/{name}"):
                    saved = self._stash(other, place)
                    saved.parent.mkdir(parents=True, exist_ok=True)
                    place.rename(saved)
        self._move("before", into=True)

    def _places(self, name: str) -> list[Path]:
        repository = self.target.repository
        return [repository / name, repository / ".metadata" / name]

    def _stash(self, state: str, place: Path) -> Path:
        return self.root / "stash" / state / place.relative_to(self.target.repository)

    def _move(self, state: str, *, into: bool) -> None:
        """Take the names of one state into the repository or out of it."""
        names = [_MOVING, *(_ADDED if state == "after" else [_REMOVED])]
        for name in names:
            for place in self._places(f"{self.registry}/{name}"):
                stash = self._stash(state, place)
                if into:
                    stash.rename(place)
                else:
                    place.rename(stash)

    def show(self, *, after: bool) -> None:
        """Make the repository what it is before or after the change."""
        if after != self._now_after:
            self._move("after" if self._now_after else "before", into=False)
            self._move("after" if after else "before", into=True)
            self._now_after = after

    def empty(self) -> None:
        """An empty directory as store, and no cache."""
        for path in (self.target.store, self.target.cache):
            shutil.rmtree(path, ignore_errors=True)
        self.target.store.mkdir()

    def _save(self, state: str) -> None:
        saved = self.root / "saved" / state
        saved.mkdir(parents=True)
        for path in (self.target.store, self.target.cache):
            if path.exists():
                _copy(path, saved / path.name)

    def saved(self, state: str) -> Path:
        """The store as it was in a state."""
        return self.root / "saved" / state / self.target.store.name

    def begin(self, scenario: Scenario) -> None:
        """Make everything as it is before the sync of a scenario."""
        self.show(after=scenario.after)
        self.restore(scenario.start)

    def restore(self, state: str) -> None:
        """Make store and cache what they were in a state."""
        for path in (self.target.store, self.target.cache):
            shutil.rmtree(path, ignore_errors=True)
            saved = self.root / "saved" / state / path.name
            if saved.exists():
                _copy(saved, path)

    def forget(self) -> None:
        """Let the next sync look at everything, whatever the last one noted."""
        shutil.rmtree(self.target.cache / "stamps", ignore_errors=True)

    def command(self, now: int, *options: str) -> Callable[[], int]:
        """A function that does what ``podman-cvmfs sync`` does, at the time ``now``."""
        argv = ["podman-cvmfs", "-q", *self.target.argv("--offline", *options)]

        def run() -> int:
            sys.argv = argv
            time.time = lambda: float(now)
            main()

        return run

    def sync_here(self, now: int) -> tuple[int, str]:
        """Sync undisturbed; return exit code and output."""
        outcome = supervise(self.command(now), calls=["syncfs"], decide=lambda call: SKIP)
        return outcome.code, outcome.output

    def watches(self, path: str) -> bool:
        """Whether a path is in the store or the cache."""
        return path.startswith((f"{self.target.store}", f"{self.target.cache}"))


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


@contextlib.contextmanager
def stage(root: Path) -> Iterator[Stage]:
    """A stage below ``root`` with a registry of its own, which runs as long."""
    registry = Registry(root / "registry")
    try:
        yield Stage(root, registry)
    finally:
        registry.stop()
