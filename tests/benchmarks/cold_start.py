# SPDX-License-Identifier: Apache-2.0
"""How long a container takes to start while nothing of its image is in any cache.

Run ``python -m tests.benchmarks.cold_start [ROUNDS] [SECONDS] [PLOT.svg]`` as root; SECONDS is what
each request takes, to the repository's server as to the registry. It prints a table for a python
image and a compiled one, and how good a guess is; the plot shows the same times.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podman_cvmfs.profiles.choose import config_of
from podman_cvmfs.profiles.guess import guess
from podman_cvmfs.profiles.profile import MAX_PROFILE, Profile, parse_profile
from podman_cvmfs.repository.readers import READERS
from tests.benchmarks.bars import bars
from tests.support.cold import Stage
from tests.support.images import Built, push
from tests.support.podman import Podman, running
from tests.support.programs import build_programs
from tests.support.registry import Registry
from tests.support.slow_proxy import SlowProxy


@dataclass(frozen=True)
class Start:
    """One way of starting an image: seconds, and requests to the server."""

    how: str
    seconds: float
    requests: int


def record(stage: Stage, built: Built) -> Profile:
    """Record the image's profile; it lies where ``stage.forget`` takes it away again."""
    with stage.cold(0), stage.podman() as podman:
        stage.run(podman, "profile", stage.name(built), "--output", str(stage.profile(built)))
    data = stage.profile(built).read_bytes()
    assert len(data) < MAX_PROFILE
    return parse_profile(data, built.image_id, "the profile")


def start(
    stage: Stage, built: Built, delay: float, *options: str, hot: bool = False
) -> tuple[float, int]:
    """The seconds of a cold start by podman with these options, or of the one after it, and the
    requests."""
    with stage.cold(delay) as client, stage.podman() as podman:
        run = [*options, "run", "--rm", "--pull=never", stage.name(built)]
        seconds = _seconds(lambda: podman.run(*run))
        if hot:
            # A prefetch still under way would be in the way.
            time.sleep(1)
            seconds = min(_seconds(lambda: podman.run(*run)) for _ in range(5))
        return seconds, client.requests()


def read(stage: Stage, built: Built, profile: Profile, delay: float) -> tuple[float, int]:
    """The same for reading the profile's files, with no podman at all: by 8 threads."""
    with stage.cold(delay) as client, ThreadPoolExecutor(READERS) as threads:
        found = stage.shown(built)

        def read_one(path: str) -> None:
            where = found.locate(path)
            assert where is not None
            Path(where).read_bytes()

        paths = [use.path for use in profile.files]
        return _seconds(lambda: list(threads.map(read_one, paths))), client.requests()


def pull(built: Built, registry: Registry, delay: float, root: Path) -> tuple[float, int]:
    """The same for a pull and a start, from a registry behind the same delay."""
    with SlowProxy(registry.address, delay) as proxy, _puller(root, proxy.address) as podman:
        name = f"{proxy.address}/{built.image.name}"
        before = len(registry.requests())
        seconds = _seconds(lambda: podman.run("run", "--rm", name))
        return seconds, len(registry.since(before))


@contextmanager
def _puller(root: Path, address: str) -> Iterator[Podman]:
    with (
        tempfile.TemporaryDirectory(dir=root) as place,
        running(Path(place), stores=[], insecure=[address]) as podman,
    ):
        podman.run("ps")
        yield podman
        podman.run("rmi", "--all", "--force")


def at_once(stage: Stage, built: Built, delay: float, count: int, *options: str) -> Start:
    """Start ``count`` cold containers of an image at once."""
    with stage.cold(delay) as client, stage.podman() as podman:
        run = [*options, "run", "--rm", "--pull=never", stage.name(built)]
        with ThreadPoolExecutor(count) as threads:
            seconds = _seconds(lambda: list(threads.map(lambda _: podman.run(*run), range(count))))
        return Start(f"{count} at once", seconds, client.requests())


def hook_options(stage: Stage) -> list[str]:
    """What has podman read early."""
    return [f"--hooks-dir={stage.add_hook()}"]


def shares(profile: Profile, guessed: set[str]) -> tuple[float, float]:
    """How much of what is used was guessed, and how much of the guesses isn't used."""
    used = {use.path for use in profile.files}
    return len(used & guessed) / len(used), len(guessed - used) / max(1, len(guessed))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _quickest(measure: Callable[[], tuple[float, int]], rounds: int) -> tuple[float, int]:
    """Whatever else the machine does only adds to a time."""
    return min(measure() for _ in range(rounds))


def compare(
    stage: Stage, built: Built, registry: Registry, delay: float, rounds: int
) -> list[Start]:
    """All ways to start an image."""
    hooks = hook_options(stage)
    profile = record(stage, built)
    found = []

    def add(how: str, measure: Callable[[], tuple[float, int]]) -> None:
        found.append(Start(how, *_quickest(measure, rounds)))
        print(f"  {how}: {found[-1].seconds:.2f} s, {found[-1].requests} requests", flush=True)

    print(f"{built.image.name}, {len(profile.files)} files", flush=True)
    add("pull and start", lambda: pull(built, registry, delay, stage.root))
    add("cold start", lambda: start(stage, built, delay))
    add("with a profile", lambda: start(stage, built, delay, *hooks))
    add("the files alone", lambda: read(stage, built, profile, delay))
    stage.profile(built).unlink()
    add("with a guess", lambda: start(stage, built, delay, *hooks))
    with stage.cold(0):
        config = config_of(str(stage.target.store), stage.stored(built)[1])
        guessed = {use.path for use in guess(stage.shown(built), config)}
    has, vain = shares(profile, guessed)
    print(f"  the guess has {has:.0%} of the files; {vain:.0%} of it is in vain", flush=True)
    add("hot start", lambda: start(stage, built, 0, hot=True))
    record(stage, built)
    add("hot, with a profile", lambda: start(stage, built, 0, *hooks, hot=True))
    return found


def main() -> None:
    """Measure as the command line says and print the result."""
    given = [*sys.argv[1:], *("3", "0.02", "")[len(sys.argv) - 1 :]]
    rounds, delay = int(given[0]), float(given[1])
    with tempfile.TemporaryDirectory(prefix="cold-start-", dir="/var/tmp") as scratch:
        images = build_programs()
        stage = Stage(Path(scratch), list(images))
        registry = Registry(Path(scratch, "registry"))
        try:
            for built in images:
                push(built, registry)
            found = {
                each.image.name: compare(stage, each, registry, delay, rounds) for each in images
            }
            for options in ([], hook_options(stage)):
                many = at_once(stage, images[0], delay, 16, *options)
                print(f"{many.how}: {many.seconds:.2f} s, {many.requests} requests {options}")
        finally:
            registry.stop()
    if given[2]:
        times = {
            name: {each.how: each.seconds for each in starts} for name, starts in found.items()
        }
        Path(given[2]).write_text(bars(times, "seconds"))


if __name__ == "__main__":
    main()
