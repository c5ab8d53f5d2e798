# SPDX-License-Identifier: Apache-2.0
"""A sync killed, or failing, at its file-system calls; ``tests/crash.sh`` tries them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.engine import Engine, engine
from tests.crash.failures import READ_ERRORS, WRITE_ERRORS, fail_reads, fail_writes
from tests.crash.kills import kill_everywhere
from tests.crash.soak import soak
from tests.crash.stage import SCENARIOS, Scenario, Stage, stage
from tests.support.podman import Host

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, podman_host: Host) -> Iterator[Stage]:
    """A repository, and the stores before and after a change of it."""
    with stage(tmp_path_factory.mktemp("crash")) as made:
        yield made


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, place: Stage) -> Iterator[Engine]:
    """A podman that uses the store."""
    with engine(place, tmp_path_factory.mktemp("engine")) as made:
        yield made


@each_scenario
def test_killed_anywhere_podman_goes_on_and_the_next_sync_mends(
    place: Stage, podman: Engine, scenario: Scenario
) -> None:
    result = kill_everywhere(place, scenario, step=4, every=12, engine=podman)
    assert result.runs > 30
    assert result.problems == []


@pytest.mark.parametrize("onwards", [False, True], ids=["once", "from-then-on"])
@each_scenario
def test_an_error_anywhere_in_writing_leaves_the_store_as_it_was(
    place: Stage, scenario: Scenario, onwards: bool
) -> None:
    errors = WRITE_ERRORS[:5] if onwards else WRITE_ERRORS
    result = fail_writes(place, scenario, errors, step=7, onwards=onwards)
    assert result.runs > 10
    assert result.problems == []


@pytest.mark.parametrize("onwards", [False, True], ids=["once", "from-then-on"])
@each_scenario
def test_an_error_anywhere_in_reading_the_repository_loses_nothing(
    place: Stage, scenario: Scenario, onwards: bool
) -> None:
    result = fail_reads(place, scenario, READ_ERRORS[:4], step=9, onwards=onwards)
    assert result.runs > 10
    assert result.problems == []


def test_podmans_in_loops_while_syncs_add_move_and_remove(place: Stage, tmp_path: Path) -> None:
    report = soak(place, tmp_path, 20)
    print(report)
    assert report.problems == []
    assert len(report.rounds) == 10 and all(report.rounds.values())
