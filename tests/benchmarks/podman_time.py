# SPDX-License-Identifier: Apache-2.0
"""What a large store costs podman: its commands with stores of many images against an empty one.

Run as root ``python -m tests.benchmarks.podman_time [IMAGES ...]`` (100, 1,000 and 5,000 if none
are given), with this machine's podman and those of the other releases that ``tests.support.roots``
has made. One line a command and store: the median of the differences from the same command with a
store that holds but the image used, measured in turn.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.matrix.guest import Guest, guest
from tests.matrix.host import Machine
from tests.support import roots
from tests.support.cli import succeed
from tests.support.images import IMAGES, build, write_layout
from tests.support.many import make_repository

_ROUNDS = 9
_NAME = "docker.io/library/bench:1"
_COMMANDS = (["image", "exists", _NAME], ["run", "--rm", "--pull=never", _NAME, "true"])


def seconds_of(podman: Guest, args: Sequence[str]) -> float:
    start = time.perf_counter()
    podman.run(*args)
    return time.perf_counter() - start


def cpu_seconds(podman: Guest, args: Sequence[str]) -> float:
    """What all processors together spent: unlike time, other work on the machine adds little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    podman.run(*args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


Clock = Callable[[Guest, Sequence[str]], float]


def compare(full: Guest, small: Guest, args: Sequence[str], clock: Clock) -> tuple[float, float]:
    """Return the median seconds of a command with the small store, and of the differences."""
    pairs = [(clock(full, args), clock(small, args)) for _ in range(_ROUNDS)]
    return (
        statistics.median(second for _, second in pairs),
        statistics.median(first - second for first, second in pairs),
    )


def make_stores(scratch: Path, counts: Sequence[int]) -> dict[int, Path]:
    """A store of that many images and one that runs, for each count and for 0."""
    image = next(image for image in IMAGES if image.name == "t/single:1")
    write_layout([build(image)], scratch / "layout")
    real = scratch / "real"
    succeed("publish", f"oci:{scratch}/layout:1", "--repository", real, "--name", _NAME)
    stores = {}
    for count in (0, *counts):
        repositories = ["--repository", str(real)]
        if count:
            many = make_repository(scratch / f"many-{count}", count)
            repositories += ["--repository", str(many)]
        stores[count] = scratch / f"store-{count}"
        places = ("--store", stores[count], "--cache", scratch / "cache")
        succeed("sync", *repositories, *places, "--offline")
    return stores


@contextmanager
def podmans(root: Path, scratch: Path, stores: dict[int, Path]) -> Iterator[dict[int, Guest]]:
    """The podman of the root file system ``root`` with each of the stores."""
    with ExitStack() as stack:
        found = {}
        for count, store in stores.items():
            machine = Machine(root, scratch)
            stack.callback(machine.close)
            place = Path(tempfile.mkdtemp(prefix=f"podman-{count}-", dir=scratch))
            found[count] = stack.enter_context(guest(machine, place, stores=[store]))
        yield found


def main() -> None:
    """Measure as the command line says and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.podman_time")
    parser.add_argument("images", nargs="*", type=int, default=[100, 1000, 5000])
    parser.add_argument("--roots", type=Path, default=roots.default_directory())
    options = parser.parse_args()
    # A short path that every machine can show.
    with tempfile.TemporaryDirectory(prefix="pt", dir="/var/tmp") as directory:
        scratch = Path(directory)
        scratch.chmod(0o755)
        stores = make_stores(scratch, options.images)
        print("| podman | command | images | empty store | more than that | more CPU time |")
        print("|---|---|---|---|---|---|")
        for root in roots.at_hand(options.roots):
            with podmans(root, scratch, stores) as found:
                for args in _COMMANDS:
                    for count in options.images:
                        base, more = compare(found[count], found[0], args, seconds_of)
                        _, work = compare(found[count], found[0], args, cpu_seconds)
                        command = " ".join(args[: 2 if args[0] == "image" else 1])
                        figures = f"{base:.3f} s | {more * 1000:+.0f} ms | {work * 1000:+.0f} ms"
                        row = f"| {found[0].version} | {command} | {count} | {figures} |"
                        print(row, flush=True)


if __name__ == "__main__":
    main()
