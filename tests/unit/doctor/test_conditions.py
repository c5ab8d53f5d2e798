# SPDX-License-Identifier: Apache-2.0
"""Every condition that doctor knows is found by its name, with its cure, and only where it is."""

from __future__ import annotations

import pytest

from podman_cvmfs.doctor.conditions import CONDITIONS
from podman_cvmfs.doctor.facts import Facts
from podman_cvmfs.doctor.finding import Level
from podman_cvmfs.doctor.judge.judges import judge
from tests.unit.doctor.crio_cases import CRIO_CASES
from tests.unit.doctor.machine_cases import MACHINE_CASES
from tests.unit.doctor.podman_cases import PODMAN_CASES
from tests.unit.doctor.store_cases import STORE_CASES

TABLE = [*PODMAN_CASES, *STORE_CASES, *MACHINE_CASES, *CRIO_CASES]


@pytest.mark.parametrize(("name", "facts", "told", "cure"), TABLE)
def test_condition(name: str, facts: Facts, told: str, cure: str) -> None:
    found = {each.condition.name: each for each in judge(facts)}
    assert name in found, sorted(found)
    finding = found[name]
    assert told in finding.found
    assert finding.by_hand == cure.startswith("# ")
    assert finding.cure.startswith(cure[2:]) if finding.by_hand else cure in finding.cure
    # One thing is wrong: no error follows from it that isn't one.
    assert {n for n, each in found.items() if each.condition.level is Level.ERROR} <= {name}


def test_every_condition_is_in_the_table() -> None:
    assert {name for name, *_ in TABLE} == set(CONDITIONS)
