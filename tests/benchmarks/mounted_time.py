# SPDX-License-Identifier: Apache-2.0
"""Time the first sync of a repository that the emulated CernVM-FS client shows, its cache cold.

Run ``python -m tests.benchmarks.mounted_time [IMAGES] [SECONDS]`` as root; SECONDS is what each
request to the server takes. Prints, for each view, the time and the requests.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import Target
from tests.support.many import make_repository
from tests.support.mounted import mounted

VIEWS = ("flat", "layers")
_LAYERS = 10


@dataclass(frozen=True)
class FirstSync:
    """What it took: seconds, and requests to the server."""

    seconds: float
    requests: int


def measure(images: int, delay: float, view: str) -> FirstSync:
    """Sync ``images`` images of 10 layers, each request taking ``delay`` seconds."""
    with tempfile.TemporaryDirectory(prefix="mounted-time-") as scratch:
        place = Path(scratch)
        repository = make_repository(place / "repository", images, layers=_LAYERS)
        target = Target(place / "mount", place / "store", place / "blobs")
        with mounted(repository, target.repository, place / "client") as client:
            client.tell(delay=delay)
            argv = target.argv("--offline", "--view", view)
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "podman_cvmfs", "-q", *argv],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            return FirstSync(time.perf_counter() - start, client.requests())


def main() -> None:
    """Measure as the command line says and print the result."""
    given = [*sys.argv[1:], *("1000", "0.02")[len(sys.argv) - 1 :]]
    for view in VIEWS:
        found = measure(int(given[0]), float(given[1]), view)
        print(f"{given[0]} images, {view}: {found.seconds:.1f} s, {found.requests} requests")


if __name__ == "__main__":
    main()
