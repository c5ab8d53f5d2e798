# SPDX-License-Identifier: Apache-2.0
"""What a large repository costs: the peak memory of a full sync, and a sync with nothing to do.

Run ``python -m tests.benchmarks.scale [IMAGES]`` (10,000 if not given): prints time and peak memory
of the full sync, then the median times of one with nothing to do and of ``podman-cvmfs --version``,
run in turn as processes of their own, and the median of their ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.many import make_repository

#: Changes younger than this, in seconds, are looked at again: then there is something to do.
_YOUNG = 2.5


@dataclass(frozen=True)
class Cost:
    """Seconds and peak memory (in MB) of the full sync; seconds of each no-op and ``--version``."""

    full: float
    peak: float
    noops: list[float]
    versions: list[float]

    @property
    def ratio(self) -> float:
        """The median of no-op / version."""
        return statistics.median(a / b for a, b in zip(self.noops, self.versions))


# What wait4(2) tells of a process begins with what the one that started it had.
_WITH_PEAK = """
import sys
from podman_cvmfs.cli.main import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print([line.split()[1] for line in status if line.startswith("VmHWM")][0])
"""


def _peak(*args: str) -> float:
    """Run ``podman-cvmfs ARGS`` and return its peak memory in MB."""
    argv = [sys.executable, "-c", _WITH_PEAK, *args]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    return int(done.stdout) * 1024 / 1e6


def _seconds(*args: str) -> float:
    """Run ``podman-cvmfs ARGS`` and return how long it took."""
    argv = [sys.executable, "-m", "podman_cvmfs", *args]
    start = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(images: int, pairs: int) -> Cost:
    """Measure with a repository of that many images."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir="/var/tmp") as scratch:
        repository = make_repository(Path(scratch, "repository"), images)
        places = ["--store", f"{scratch}/store", "--cache", f"{scratch}/cache"]
        sync = ["-q", "sync", "--offline", "--repository", str(repository), *places]
        time.sleep(_YOUNG)
        start = time.perf_counter()
        peak = _peak(*sync)
        full = time.perf_counter() - start
        noops, versions = [], []
        for _ in range(pairs):
            noops.append(_seconds(*sync))
            versions.append(_seconds("--version"))
    return Cost(full, peak, noops, versions)


def main() -> None:
    """Measure as the command line says and print the results."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    cost = measure(images, pairs=15)
    print(f"{images} images: full sync {cost.full:.1f} s, peak memory {cost.peak:.0f} MB")
    noop, version = (statistics.median(each) for each in (cost.noops, cost.versions))
    print(f"nothing to do {noop:.3f} s, --version {version:.3f} s, median ratio {cost.ratio:.2f}")


if __name__ == "__main__":
    main()
