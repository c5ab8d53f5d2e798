# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.matrix``: run the matrix and print a table in Markdown."""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.matrix import changes, checks, deeds, deeds_stated, real_layers, reuse
from tests.matrix.bench import Bench, Outcome
from tests.matrix.cells import cells
from tests.matrix.run import map_ids, run_cell
from tests.matrix.site import site
from tests.support import roots


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


def _rows() -> Iterator[tuple[str, Callable[[Bench], Outcome]]]:
    """Every row of the table: its name, and what gives a cell of it."""
    for cell in cells():
        yield cell.name, functools.partial(run_cell, cell=cell)
    for view in ("flat", "layers"):
        yield f"60 and 120 layers, {view}", functools.partial(checks.deep, view=view)
    for cell in deeds.CELLS:
        yield f"deeds {cell.name}", functools.partial(deeds_stated.run, cell=cell)
    for view, mode, how in itertools.product(reuse.VIEWS, reuse.REUSES, ("", " fuse", " mount")):
        for what, row in (
            ("pull", reuse.pulls),
            ("build, commit, save, push", reuse.made),
        ):
            run = functools.partial(
                row, view=view, reuse=mode, fuse=how == " fuse", mount=how == " mount"
            )
            yield f"reuse {view} {mode}{how}: {what}", run
    for mode in reuse.REUSES:
        yield f"reuse exact {mode}: pull", functools.partial(reuse.pulls, view="exact", reuse=mode)
    yield (
        "reuse exact base: build, commit, save, push",
        functools.partial(reuse.made, view="exact", reuse="base"),
    )
    for cell in changes.CELLS:
        yield f"changes {cell.name}", functools.partial(changes.run, cell=cell)
    for view in reuse.VIEWS:
        for mode in reuse.REUSES:
            yield (
                f"real layers {view} {mode}",
                functools.partial(real_layers.run, view=view, reuse=mode),
            )
    yield (
        "real layers rootless",
        functools.partial(real_layers.run, view="auto", reuse="base", rootless=True),
    )
    yield "real layers two stores", real_layers.two_stores
    for cell in checks.MAPPED:
        yield f"--userns, --uidmap: {cell.name}", functools.partial(map_ids, cell=cell)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if anything was not as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--roots", type=Path, default=roots.default_directory())
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--podman", default="", help="only the Debian release of this code name")
    options = parser.parse_args(argv)
    results: dict[str, dict[str, Outcome]] = {}
    with site() as world:
        for codename, root in _benches(options.roots).items():
            if options.podman not in ("", codename):
                continue
            bench = Bench(world, root)
            column = results[f"podman {bench.version}"] = {}
            for name, run in _rows():
                # The exact view is for podman 5.4 and later.
                skipped = "exact" in name and bench.version.startswith("4.")
                if options.only in name and not skipped:
                    column[name] = _timed(bench, name, run)
    print(table(results))
    return int(any(o.problems for column in results.values() for o in column.values()))


def _timed(bench: Bench, name: str, run: Callable[[Bench], Outcome]) -> Outcome:
    start = time.monotonic()
    outcome = run(bench)
    outcome.seconds = time.monotonic() - start
    _log(f"{bench.version} {name}: {outcome.verdict} ({outcome.seconds:.0f} s)")
    for problem in outcome.problems:
        _log(f"    {problem}")
    return outcome


def table(results: Mapping[str, Mapping[str, Outcome]]) -> str:
    """A Markdown table: a row for each name, a column for each podman."""
    names = list(dict.fromkeys(name for column in results.values() for name in column))
    lines = ["| | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for name in names:
        verdicts = (column[name].verdict if name in column else "-" for column in results.values())
        lines.append(f"| {name} | " + " | ".join(verdicts) + " |")
    return "\n".join(lines)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
