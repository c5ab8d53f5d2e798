# SPDX-License-Identifier: Apache-2.0
"""What real podman makes of a store that a sync has left in the middle of its work."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.crash.stage import Stage
from tests.support.podman import Podman, running


class Engine:
    """A podman that uses a stage's store and has a store of its own, empty between the checks."""

    def __init__(self, stage: Stage, podman: Podman) -> None:
        self._stage = stage
        self._podman = podman
        self.checks = 0

    def check(self, *, kept: bool) -> list[str]:
        """List, run, pull what shares layers with the store, remove it, list; return what fails.

        With ``kept`` the names that are always there must be there.
        """
        self.checks += 1
        stage = self._stage
        lines = []
        names, problem = self._names()
        lines += problem
        if kept:
            lines += [f"podman doesn't list {name}" for name in set(stage.kept) - names]
            name = min(stage.kept)
            lines += self._run(name, stage.kept[name])
        lines += self._do("pull", "--quiet", stage.onto)
        lines += self._run(stage.onto, stage.onto_prints)
        lines += self._do("rmi", stage.onto)
        after, problem = self._names()
        lines += problem
        if after != names:
            lines.append(f"podman listed {sorted(names)}, then {sorted(after)}")
        # What a wedged store shows: a layer that no command can remove any more.
        own = json.loads((self._podman.graphroot / "overlay-layers/layers.json").read_text())
        if own:
            lines.append(f"layers stay in the user's own store: {own}")
        return lines

    def _names(self) -> tuple[set[str], list[str]]:
        done = self._podman.run("images", "--format", "json", check=False)
        if done.returncode:
            return set(), [f"podman images: {done.stderr.strip()}"]
        return {name for each in json.loads(done.stdout) for name in each.get("Names") or []}, []

    def _run(self, name: str, prints: str) -> list[str]:
        return self._do("run", "--rm", "--pull=never", name, prints=prints)

    def _do(self, *argv: str, prints: str | None = None) -> list[str]:
        done = self._podman.run(*argv, check=False)
        if done.returncode == 0 and prints in (None, done.stdout):
            return []
        return [f"podman {' '.join(argv)}: {done.returncode}, {done.stderr.strip()} {done.stdout}"]


@contextlib.contextmanager
def engine(stage: Stage, root: Path) -> Iterator[Engine]:
    """An Engine for a stage, with its files below ``root``."""
    with running(root, stores=[stage.target.store], insecure=[stage.registry]) as podman:
        yield Engine(stage, podman)
