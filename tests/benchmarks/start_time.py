# SPDX-License-Identifier: Apache-2.0
"""How long the command takes to start, next to what it can't do without: Python and click.

``python -m tests.benchmarks.start_time`` prints both times and their ratio.
"""

from __future__ import annotations

import subprocess
import sys
import time

_CLICK = [sys.executable, "-c", "import click"]
_VERSION = [sys.executable, "-m", "podman_cvmfs", "--version"]


def measure(pairs: int) -> tuple[float, float]:
    """The shortest time of ``import click`` and of ``--version``, in seconds: whatever else the
    machine does only adds to them."""
    times = [(_time(_CLICK), _time(_VERSION)) for _ in range(pairs)]
    click, version = zip(*times)
    return min(click), min(version)


def _time(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    click, version = measure(30)
    print(f"import click {click:.3f} s, --version {version:.3f} s: {version / click:.2f}")
