# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.matrix``: run the matrix and print a table in Markdown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.matrix import roots
from tests.matrix.cells import cells
from tests.matrix.run import Bench, Outcome, log, run_cell
from tests.matrix.site import site


def _benches(directory: Path) -> dict[str, Path]:
    """Code name -> root file system, this machine's own first; missing ones are made."""
    here = roots.host_codename()
    found = {}
    for each in roots.GENERATIONS:
        if each.codename == here:
            found[each.codename] = Path("/")
        else:
            found[each.codename] = roots.make(directory, each.codename)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if anything was not as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--roots", type=Path, default=roots.default_directory())
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    parser.add_argument("--podman", default="", help="only the Debian release of this code name")
    options = parser.parse_args(argv)
    results: dict[str, dict[str, Outcome]] = {}
    with site() as world:
        for codename, root in _benches(options.roots).items():
            if options.podman not in ("", codename):
                continue
            bench = Bench(world, root)
            version = bench.version()
            results[version] = {}
            for cell in cells():
                if options.only in cell.name:
                    outcome = results[version][cell.name] = run_cell(bench, cell, version)
                    log(f"{version} {cell.name}: {_verdict(outcome)} in {outcome.seconds:.0f} s")
                    for problem in outcome.problems:
                        log(f"    {problem}")
    print(table(results))
    return int(any(o.problems for column in results.values() for o in column.values()))


def table(results: Mapping[str, Mapping[str, Outcome]]) -> str:
    """A Markdown table: a row for each cell, a column for each podman."""
    names = list(dict.fromkeys(name for column in results.values() for name in column))
    lines = ["| cell | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for name in names:
        verdicts = (_verdict(column.get(name)) for column in results.values())
        lines.append(f"| {name} | " + " | ".join(verdicts) + " |")
    return "\n".join(lines)


def _verdict(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    return f"{outcome.images} same" if not outcome.problems else f"{len(outcome.problems)} wrong"


if __name__ == "__main__":
    sys.exit(main())
