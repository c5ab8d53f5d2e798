# SPDX-License-Identifier: Apache-2.0
"""A sync killed, or failing, at its file-system calls; ``tests/crash.sh`` tries them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.engine import Engine, engine
from tests.crash.kills import kill_everywhere
from tests.crash.world import SCENARIOS, Scenario, World, world
from tests.support.podman import Host

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, podman_host: Host) -> Iterator[World]:
    """A repository, and the stores before and after a change of it."""
    with world(tmp_path_factory.mktemp("crash")) as made:
        yield made


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, place: World) -> Iterator[Engine]:
    """A podman that uses the store."""
    with engine(place, tmp_path_factory.mktemp("engine")) as made:
        yield made


@each_scenario
def test_killed_anywhere_podman_goes_on_and_the_next_sync_mends(
    place: World, podman: Engine, scenario: Scenario
) -> None:
    result = kill_everywhere(place, scenario, step=3, every=12, engine=podman)
    assert result.runs > 30
    assert result.problems == []
