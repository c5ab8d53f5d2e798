# SPDX-License-Identifier: Apache-2.0
"""What the layout of a store costs a container's start: against a store of layout 4.

Run as root ``python -m tests.benchmarks.layout_time [PAIRS]`` (25 if not given), with this
machine's podman and those of the other releases that ``tests.support.roots`` has made. One line for
each podman and view: the median of the ratios new / old of ``podman run --rm IMAGE true``, run in
turn, and of the CPU time of both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.podman_time import Clock, cpu_seconds, podmans, seconds_of
from tests.matrix.guest import Guest
from tests.support import roots
from tests.support.cli import succeed
from tests.support.images import IMAGES, build, write_layout
from tests.support.released import LAYOUT_4, released

_NAME = "docker.io/library/bench:1"
_VIEWS = ("flat", "layers")
#: Several layers, none of which deletes anything.
_IMAGE = "t/app:1"


def make_stores(scratch: Path) -> dict[tuple[str, bool], Path]:
    """A store of one image for each view, written by the code as it is and (True) by layout 4's."""
    write_layout([build(next(i for i in IMAGES if i.name == _IMAGE))], scratch / "layout")
    repository = scratch / "repository"
    succeed("publish", f"oci:{scratch}/layout:1", "--repository", repository, "--name", _NAME)
    old_code = released(LAYOUT_4, scratch)
    stores = {}
    for view in _VIEWS:
        for old in (False, True):
            store = stores[view, old] = scratch / f"{view}-{'old' if old else 'new'}"
            places: list[str | Path] = [
                "--repository",
                repository,
                "--store",
                store,
                "--cache",
                scratch / "cache",
            ]
            command = [sys.executable, "-m", "podman_cvmfs", "sync", "--offline", "--view", view]
            environment = {**os.environ, **({"PYTHONPATH": str(old_code)} if old else {})}
            # Outside the checkout, whose code would be taken otherwise.
            subprocess.run([*command, *places], check=True, cwd=scratch, env=environment)
    return stores


def ratio(new: Guest, old: Guest, pairs: int, clock: Clock) -> float:
    """The median of new / old of a container's start, with the two in turn first."""
    command = ("run", "--rm", "--pull=never", _NAME, "true")
    found = []
    for number in range(pairs):
        first, second = (new, old) if number % 2 else (old, new)
        times = {id(each): clock(each, command) for each in (first, second)}
        found.append(times[id(new)] / times[id(old)])
    return statistics.median(found)


def main() -> None:
    """Measure and print a table."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    with tempfile.TemporaryDirectory(prefix="lt", dir="/var/tmp") as directory:
        scratch = Path(directory)
        scratch.chmod(0o755)
        stores = make_stores(scratch)
        print("| podman | view | time, new / old | CPU time, new / old |")
        print("|---|---|---|---|")
        for root in roots.at_hand(roots.default_directory()):
            for view in _VIEWS:
                kinds = {0: stores[view, False], 1: stores[view, True]}
                with podmans(root, scratch, kinds) as found:
                    for each in found.values():
                        each.run("run", "--rm", "--pull=never", _NAME, "true")
                    time = ratio(found[0], found[1], pairs, seconds_of)
                    work = ratio(found[0], found[1], pairs, cpu_seconds)
                    row = f"| {found[0].version} | {view} | {time:.3f} | {work:.3f} |"
                    print(row, flush=True)


if __name__ == "__main__":
    main()
