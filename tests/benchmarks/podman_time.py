# SPDX-License-Identifier: Apache-2.0
"""What a large store costs podman: its commands with stores of many images against an empty one.

Run as root ``python -m tests.benchmarks.podman_time [IMAGES ...]`` (100, 1,000 and 5,000 if none
are given), with the podman on PATH. One line a command and store: the median of the differences
from the same command with a store that holds but the image used, measured in turn.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.cli import podman_cvmfs
from tests.support.images import IMAGES, build, write_layout
from tests.support.many import make_repository
from tests.support.podman import Podman, running

_ROUNDS = 7
_NAME = "docker.io/library/bench:1"


def _seconds(podman: Podman, *args: str) -> float:
    start = time.perf_counter()
    podman.run(*args)
    return time.perf_counter() - start


def compare(full: Podman, small: Podman, *args: str) -> tuple[float, float]:
    """Return the median seconds of a command with the small store, and of the differences."""
    pairs = [(_seconds(full, *args), _seconds(small, *args)) for _ in range(_ROUNDS)]
    return (
        statistics.median(second for _, second in pairs),
        statistics.median(first - second for first, second in pairs),
    )


@contextmanager
def podmans(scratch: Path, counts: list[int]) -> Iterator[dict[int, Podman]]:
    """A podman with a store of that many images and one that runs, for each count and for 0."""
    image = next(image for image in IMAGES if image.name == "t/single:1")
    write_layout([build(image)], scratch / "layout")
    real = scratch / "real"
    podman_cvmfs("publish", f"oci:{scratch}/layout:1", "--repository", real, "--name", _NAME)
    with ExitStack() as stack:
        found = {}
        for count in (0, *counts):
            repositories = ["--repository", str(real)]
            if count:
                make_repository(scratch / f"many-{count}", count)
                repositories += ["--repository", str(scratch / f"many-{count}")]
            store = scratch / f"store-{count}"
            options = ["--store", str(store), "--cache", str(scratch / "cache"), "--offline"]
            done = podman_cvmfs("sync", *repositories, *options)
            assert done.returncode == 0, done.stderr
            found[count] = stack.enter_context(running(scratch / f"podman-{count}", stores=[store]))
        yield found


def main() -> None:
    """Measure as the command line says and print a table."""
    counts = [int(text) for text in sys.argv[1:]] or [100, 1000, 5000]
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="podman-time-", dir="/var/tmp")
        found = stack.enter_context(podmans(Path(stack.enter_context(scratch)), counts))
        print(found[0].run("--version").stdout.strip())
        print("| command | images | small store | more than that |\n|---|---|---|---|")
        for args in (["image", "exists", _NAME], ["run", "--rm", "--pull=never", _NAME, "true"]):
            for count in counts:
                base, more = compare(found[count], found[0], *args)
                command = " ".join(args[:2] if args[0] == "image" else args[:1])
                print(f"| {command} | {count} | {base:.3f} s | {more * 1000:+.0f} ms |")


if __name__ == "__main__":
    main()
