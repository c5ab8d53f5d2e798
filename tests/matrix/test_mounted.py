# SPDX-License-Identifier: Apache-2.0
"""A short form of the matrix on an emulated CernVM-FS mount, on every podman whose root is present.

``python -m tests.matrix --only mount`` runs all of it.
"""

from __future__ import annotations

import pytest

from tests.matrix import deeds, deeds_stated
from tests.matrix.bench import Bench
from tests.matrix.cells import Cell
from tests.matrix.run import run_cell

#: Images of one layer, of several, with lost bits and links, and with deletions.
_FEW = ("t/single:1", "t/app:1", "t/opaque:1", "t/turned:2", "v/nested-opaque:1")


@pytest.mark.parametrize("cell", deeds.CELLS, ids=lambda cell: cell.name.replace(" ", "-"))
def test_deeds_end_as_stated(bench: Bench, cell: Cell) -> None:
    outcome = deeds_stated.run(bench, cell)
    assert outcome.problems == []
    assert outcome.images


@pytest.mark.parametrize(
    "cell",
    [
        Cell(False, False, "layers", "foreign", mount=True),
        Cell(True, False, "flat", "foreign", own=True, mount=True),
    ],
    ids=lambda cell: cell.name.replace(" ", "-"),
)
def test_containers_see_what_a_pull_gives(bench: Bench, cell: Cell) -> None:
    outcome = run_cell(bench, cell, _FEW)
    assert outcome.problems == []
    assert outcome.images == len(_FEW)


def test_every_statement_is_of_a_deed() -> None:
    known = set(deeds.names())
    for failure in deeds_stated.FAILURES:
        assert known.issuperset(failure.deeds)
        for deed in failure.deeds:
            assert any(deeds_stated.stated(deed, cell) is failure for cell in deeds.CELLS)
