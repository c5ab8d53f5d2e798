# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz``: very many inputs for all parsers; see --help."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.run import Tally, fuzz
from tests.fuzz.targets import TARGETS, check

#: How many inputs one task has, so that all processors are busy to the end.
_SHARE = 10_000


def _part(index: int, inputs: int, seed: int) -> tuple[int, Tally]:
    return index, fuzz(TARGETS[index], inputs, seed)


def _many(inputs: int, seed: int) -> int:
    weights = sum(target.weight for target in TARGETS)
    tasks: list[tuple[int, int, int]] = []
    for index, target in enumerate(TARGETS):
        left = -(-inputs * target.weight // weights)
        while left > 0:
            tasks.append((index, min(left, _SHARE), seed + len(tasks)))
            left -= _SHARE
    start = time.monotonic()
    tallies = {index: Tally() for index in range(len(TARGETS))}
    with ProcessPoolExecutor() as pool:
        for index, tally in pool.map(_part, *zip(*tasks)):
            tallies[index].inputs += tally.inputs
            tallies[index].failures += tally.failures
    for index, tally in tallies.items():
        print(f"{TARGETS[index].name}: {tally.inputs} inputs, {len(tally.failures)} failures")
        for failure in tally.failures:
            print(f"    {failure}")
    total = sum(tally.inputs for tally in tallies.values())
    print(f"{total} inputs in {time.monotonic() - start:.0f} s, seed {seed}")
    return 1 if any(tally.failures for tally in tallies.values()) else 0


def _guided(name: str, inputs: int, seed: int) -> None:
    """Fuzz one parser guided by what its code does with the input; doesn't return."""
    import atheris  # type: ignore

    (target,) = (each for each in TARGETS if each.name == name)
    atheris.instrument_all()
    atheris.Setup(
        [sys.argv[0], f"-runs={inputs}", f"-seed={seed}", "-timeout=5", "-max_len=4096"],
        lambda data: check(target, bytes(data)),
    )
    atheris.Fuzz()


def main() -> int:
    """Return 0 if every input was read or refused."""
    parser = argparse.ArgumentParser(prog="tests/fuzz.sh", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all; default a million")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument(
        "--guided",
        metavar="PARSER",
        help="fuzz this one alone, guided by coverage (atheris must be installed)",
    )
    options = parser.parse_args()
    # Warnings about each of the inputs help nobody.
    logging.disable()
    if options.guided:
        _guided(options.guided, options.inputs, options.seed)
    return _many(options.inputs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
