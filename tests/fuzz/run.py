# SPDX-License-Identifier: Apache-2.0
"""Feed a parser with so many inputs, and keep those it chokes on."""

from __future__ import annotations

import random
import signal
import traceback
from dataclasses import dataclass, field
from types import FrameType

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target, check

#: No input may take longer, in seconds.
_LONGEST = 5
#: After so many failures a parser has shown what there is to see.
_ENOUGH = 5


@dataclass
class Tally:
    """What came of fuzzing one target."""

    inputs: int = 0
    failures: list[str] = field(default_factory=list)


class _SlowError(Exception):
    """An input takes too long."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise _SlowError(f"takes more than {_LONGEST} s")


def fuzz(target: Target, inputs: int, seed: int) -> Tally:
    """Feed ``target`` with ``inputs`` inputs, always the same for one ``seed``."""
    random_ = random.Random(f"{target.name} {seed}")
    tally = Tally()
    before = signal.signal(signal.SIGALRM, _alarm)
    try:
        for data in target.seeds:
            check(target, data)
        while tally.inputs < inputs and len(tally.failures) < _ENOUGH:
            data = mutate(target.seeds, random_)
            tally.inputs += 1
            signal.alarm(_LONGEST)
            try:
                check(target, data)
            except Exception as err:
                shown = data if len(data) < 2000 else data[:2000] + b"..."
                where = "".join(traceback.format_tb(err.__traceback__)[-3:])
                tally.failures.append(f"{target.name}: {err!r} for {shown!r}\n{where}")
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return tally
