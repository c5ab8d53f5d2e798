# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.crash [WHAT]...``: kill, fail and starve a sync everywhere; see --help."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.engine import engine
from tests.crash.failures import READ_ERRORS, WRITE_ERRORS, fail_reads, fail_writes
from tests.crash.kills import Result, kill_everywhere
from tests.crash.stage import SCENARIOS, Stage, stage

_WHAT = ("kill", "write", "read")


def _run(what: str, place: Stage, root: Path, every: int) -> list[Result]:
    results = []
    if what == "kill":
        with engine(place, root / "engine") as podman:
            for scenario in SCENARIOS:
                results.append(_told(kill_everywhere, place, scenario, every=every, engine=podman))
            print(f"podman loaded, ran and pulled at {podman.checks} of them", flush=True)
        return results
    errors, work = {"write": (WRITE_ERRORS, fail_writes), "read": (READ_ERRORS, fail_reads)}[what]
    for scenario in SCENARIOS:
        results.append(_told(work, place, scenario, errors))
        # An interrupted call is tried again, so for ever is for ever.
        lasting = [error for error in errors if error != "EINTR"]
        results.append(_told(work, place, scenario, lasting, onwards=True))
    return results


def _told(work, *args, **options) -> Result:  # type: ignore[no-untyped-def]
    start = time.monotonic()
    result: Result = work(*args, **options)
    print(f"{result} ({time.monotonic() - start:.0f} s)", flush=True)
    for problem in result.problems:
        print(f"    {problem}", flush=True)
    return result


def main() -> int:
    """Return 0 if everything was survived."""
    parser = argparse.ArgumentParser(prog="tests/crash.sh", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(_WHAT)}; default: all")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="use podman after each Nth kill"
    )
    options = parser.parse_args()
    if set(options.what) - set(_WHAT):
        parser.error(f"not of {', '.join(_WHAT)}")
    results = []
    with tempfile.TemporaryDirectory(prefix="crash-") as root, stage(Path(root)) as place:
        for what in options.what or _WHAT:
            results += _run(what, place, Path(root), options.every)
    problems = sum(len(result.problems) for result in results)
    runs = sum(result.runs for result in results)
    print(f"{runs} runs, {problems} problems")
    return 1 if problems else 0


sys.exit(main())
