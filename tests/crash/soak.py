# SPDX-License-Identifier: Apache-2.0
"""Podmans that list, run, pull and build in loops while syncs add, retag, remove and prune.

Each loop has a store of its own beside the common one, so that it can only fail by what the syncs
do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.service import Service, service
from tests.crash.stage import NOW, Stage, stage
from tests.support.native import judged
from tests.support.picture import documents, faults
from tests.support.podman import Podman, running

#: Past the grace, in seconds.
_AGE = 15 * 24 * 3600
#: Changes between two prunings, and how long everything that began before a pruning has, in
#: seconds: a container must be up before what it was made of can be past its grace.
_CHANGES = 8
_PAUSE = 5.0


@dataclass
class Report:
    """How often each loop came round, and everything that failed.

    ``met`` counts the listings that failed because an image went after its grace while they were at
    it: podman 4 itself fails so if somebody runs ``podman rmi`` meanwhile.
    """

    met: int = 0
    rounds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.rounds.items()))
        rest = f"{self.met} listings met a removal; {len(self.problems)} problems"
        return f"{self.seconds:.0f} s: {counts}; {rest}"


Work = Callable[[], None]


class _Loops:
    """What each of the podmans does, again and again."""

    def __init__(self, stage: Stage, report: Report) -> None:
        self._stage = stage
        self._report = report
        self._tag = f"{stage.registry}/t/"
        self._kept = f"{self._tag}single:1"
        self._prints = stage.kept[self._kept]

    def run(self, podman: Podman) -> None:
        """Run an image that is always there."""
        done = podman.run("run", "--rm", "--pull=never", self._kept)
        assert done.stdout == self._prints, done

    def moving(self, podman: Podman) -> None:
        """Run what leads now to one image, now to another."""
        podman.run("run", "--rm", "--pull=never", f"{self._tag}moving:1", "true")

    def vanishing(self, podman: Podman) -> None:
        """Run an image that comes and goes: it may be unknown, but not half-known."""
        name = f"{self._tag}delete:1"
        done = podman.run("run", "--rm", "--pull=never", name, "true", check=False)
        assert done.returncode == 0 or done.stderr.strip().endswith(f"{name}: image not known"), (
            done
        )

    def images(self, podman: Podman) -> None:
        """List with sizes, which needs every image's every layer; inspect one."""
        done = podman.run("images", "--format", "json", check=False)
        if done.returncode == 0:
            listed = json.loads(done.stdout)
            names = {name for each in listed for name in each["Names"]}
            assert names >= set(self._stage.kept), names
        else:
            self._check_met(done.stderr)
        podman.inspect(f"{self._tag}moving:1")

    def pull(self, podman: Podman) -> None:
        """Pull what shares layers with images that come and go; run and remove it."""
        podman.run("pull", "--quiet", self._stage.onto)
        done = podman.run("run", "--rm", "--pull=never", self._stage.onto)
        assert done.stdout == self._stage.onto_prints, done
        podman.run("rmi", self._stage.onto)

    def build(self, podman: Podman) -> None:
        """Build on an image of the store; run and remove the result."""
        context = podman.root / "context"
        context.mkdir(exist_ok=True)
        (context / "Containerfile").write_text(f"FROM {self._kept}\nRUN echo built > /built\n")
        options = ["--quiet", "--pull=never", "--isolation=chroot", "--no-cache", "--tag=built"]
        podman.run("build", *options, str(context))
        assert podman.run("run", "--rm", "built", "cat", "/built").stdout == "built\n"
        podman.run("rmi", "built")

    def ask(self, api: Service) -> None:
        """Ask a podman that goes on running."""
        status, answer = api.ask("images/json")
        if status == 200:
            names = {name for each in answer for name in each["Names"]}
            assert names >= set(self._stage.kept), names
        else:
            self._check_met(str(answer))

    def _check_met(self, text: str) -> None:
        """Whether the image that a listing complains of has just gone."""
        missing = set(re.findall(r"\b[0-9a-f]{64}\b", text))
        there = {image["id"] for image in json.loads(documents(self._stage.target.store)[0])}
        assert "not known" in text and missing and not missing & there, text
        self._report.met += 1


class _Syncs:
    """Changes the repository and syncs; the clock of the syncs runs ahead."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._now = NOW
        self._round = 0

    def __call__(self) -> None:
        self._round += 1
        if self._round % _CHANGES:
            self._stage.show(after=self._round % 2 == 1)
        else:
            time.sleep(_PAUSE)
            self._now += _AGE
        self._now += 1
        argv = ["-q", *self._stage.target.argv("--offline")]
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash.sync_at", str(self._now), *argv],
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert faults(self._stage.target.store) == []


def soak(place: Stage, root: Path, seconds: float) -> Report:
    """Let all loops run for so long; return how it went. A loop ends with its first failure."""
    report = Report()
    loops = _Loops(place, report)
    place.show(after=False)
    place.restore("before")
    with contextlib.ExitStack() as stack:

        def podman(name: str) -> Podman:
            return stack.enter_context(
                running(root / name, stores=[place.target.store], insecure=[place.registry])
            )

        work: dict[str, Work] = {"sync": _Syncs(place)}
        plan = ["run", "run", "moving", "vanishing", "images", "pull", "pull", "build"]
        for number, name in enumerate(plan):
            work[f"{name} {number}"] = _bound(getattr(loops, name), podman(f"{name}{number}"))
        own = podman("api")
        # The path of a socket has to be short.
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="s", dir="/tmp"))
        api = stack.enter_context(service(own, Path(sockets)))
        work["service"] = lambda: loops.ask(api)
        start = time.monotonic()
        threads = [
            threading.Thread(target=_repeat, args=(name, each, start + seconds, report))
            for name, each in work.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report.seconds = time.monotonic() - start
        judged(place.target.store)
    return report


def _bound(method: Callable[[Podman], None], podman: Podman) -> Work:
    return lambda: method(podman)


def _repeat(name: str, work: Work, end: float, report: Report) -> None:
    report.rounds[name] = 0
    while time.monotonic() < end:
        try:
            work()
        except Exception as err:
            report.problems.append(f"{name}, round {report.rounds[name]}: {err}")
            return
        report.rounds[name] += 1


def main() -> int:
    """Soak for so many minutes; 0 if nothing failed."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory(prefix="soak-") as root, stage(Path(root)) as place:
        report = soak(place, Path(root), minutes * 60)
    print(report)
    for problem in report.problems:
        print(f"    {problem}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
