# SPDX-License-Identifier: Apache-2.0
"""A short form of the changes: what a container deletes doesn't come back in its commit.

``python -m tests.matrix --only changes`` makes all of them, in every image.
"""

from __future__ import annotations

import pytest

from tests.matrix import change_scripts, changes
from tests.matrix.bench import Bench
from tests.matrix.cells import Cell
from tests.matrix.host import USER


@pytest.mark.parametrize(
    "cell",
    [
        Cell(rootless=False, fuse=False, view="flat"),
        Cell(rootless=False, fuse=False, view="layers"),
        Cell(rootless=True, fuse=False, view="flat", owner="user", own=True),
        Cell(rootless=True, fuse=False, view="layers", owner="user", own=True),
    ],
    ids=lambda cell: cell.name.replace(" ", "-"),
)
def test_commits_and_builds_keep_what_was_changed(bench: Bench, cell: Cell) -> None:
    outcome = changes.run(bench, cell, change_scripts.FEW, short=True)
    assert outcome.problems == []
    assert outcome.images == len(change_scripts.FEW)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_the_family_can_be_made_on_pulled_images(bench: Bench, user: object) -> None:
    """Else nothing would be compared."""
    for image in change_scripts.FEW:
        truth = changes.on_pulled(bench, user is not None, image, short=True)
        assert truth.errors == []
        assert set(truth.images) == {"committed", "built"} and truth.diffs
        assert not any(truth.refused.values())
