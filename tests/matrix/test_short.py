# SPDX-License-Identifier: Apache-2.0
"""A short form of the matrix: root on kernel overlay, on every podman whose root is present.

``python -m tests.matrix`` runs all of it and makes the roots.
"""

from __future__ import annotations

import pytest

from tests.matrix import checks
from tests.matrix.bench import Bench
from tests.matrix.cells import Cell
from tests.matrix.run import run_cell


@pytest.mark.parametrize(
    "cell",
    [
        Cell(rootless=False, fuse=False, view="flat"),
        Cell(rootless=False, fuse=False, view="layers"),
        Cell(rootless=False, fuse=False, view="flat", owner="foreign"),
    ],
    ids=lambda cell: cell.name.replace(" ", "-"),
)
def test_containers_see_what_a_pull_gives(bench: Bench, cell: Cell) -> None:
    outcome = run_cell(bench, cell)
    assert outcome.problems == []
    assert outcome.images == len(bench.names)


def test_deep_images(bench: Bench) -> None:
    outcome = checks.deep(bench, "flat")
    assert outcome.problems == []
    assert outcome.images == 2
