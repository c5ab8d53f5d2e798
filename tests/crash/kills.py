# SPDX-License-Identifier: Apache-2.0
"""Kill a sync at its first, second, .. modifying call, until one gets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.calls import MODIFYING, Call
from tests.crash.engine import Engine
from tests.crash.stage import Scenario, Stage
from tests.crash.supervise import KILL, SKIP, Verdict, supervise
from tests.support.native import judged
from tests.support.picture import differences, documents, faults, picture, tokens

#: The documents of a store that has been begun and holds nothing; its names appear one by one.
BEGUN = ((b"", b"[]"), (b"[]", b"[]"))


class Counter:
    """Gives ``verdict`` for the ``wanted``-th call that counts, from 1; all others are made."""

    def __init__(
        self,
        counts: Callable[[Call], bool],
        wanted: int,
        verdict: Verdict,
        *,
        onwards: bool = False,
    ) -> None:
        self._counts = counts
        self._wanted = wanted
        self._verdict = verdict
        self._onwards = onwards
        self.seen = 0
        self.hit = ""

    def __call__(self, call: Call) -> Verdict:
        if not self._counts(call):
            return None
        self.seen += 1
        if self.seen == self._wanted or (self._onwards and self.seen > self._wanted):
            self.hit = self.hit or str(call)
            return self._verdict
        # The kernel outlives a killed process: to wait for the disk proves nothing.
        return SKIP if call.name == "syncfs" else None


@dataclass
class Result:
    """What came out of a scenario: how many calls there are, and every failure."""

    scenario: str
    calls: int = 0
    runs: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        state = f"{len(self.problems)} problems" if self.problems else "all survived"
        return f"{self.scenario}: {self.runs} runs at {self.calls} calls, {state}"


def modifies(stage: Stage) -> Callable[[Call], bool]:
    """Tells the calls that change the store or the cache of a stage."""
    return lambda call: call.modifies and stage.watches(call.path())


def kill_everywhere(
    stage: Stage,
    scenario: Scenario,
    *,
    step: int = 1,
    every: int = 1,
    engine: Engine | None = None,
) -> Result:
    """Kill the sync of a scenario at every call, or each ``step``-th.

    After each kill the store must be the old one or the new one, whole, and the next sync must
    leave just what an undisturbed one leaves. ``engine`` has to do with the store after each
    ``every``-th kill.
    """
    stage.begin(scenario)
    old = documents(stage.target.store)
    old_tokens = tokens(stage.target.store)
    began = () if all(old) else BEGUN
    code, output = stage.sync_here(scenario.now)
    assert code == 0, output
    judged(stage.target.store)
    wanted, new = picture(stage.target.store), documents(stage.target.store)
    result = Result(scenario.name)
    while True:
        stage.begin(scenario)
        counter = Counter(modifies(stage), result.calls + step, KILL)
        outcome = supervise(stage.command(scenario.now), calls=MODIFYING, decide=counter)
        if not counter.hit:
            assert outcome.code == 0, outcome.output
            result.calls = counter.seen
            return result
        result.calls += step
        result.runs += 1
        found = faults(stage.target.store)
        seen = documents(stage.target.store)
        if seen not in (old, new, *began):
            found.append("the store is neither the old one nor the new one")
        if seen == new != old:
            for name, before, after in zip("LI", old_tokens, tokens(stage.target.store)):
                if before == after and after:
                    found.append(f"new records under the old token {name}")
        if engine is not None and result.runs % every == 0:
            found += engine.check(kept=all(old))
        code, output = stage.sync_here(scenario.now)
        if code != 0:
            found.append(f"the next sync gives {code}: {output}")
        found += differences(wanted, picture(stage.target.store))
        result.problems += [f"{result.calls} {counter.hit}: {each}" for each in found]
