# SPDX-License-Identifier: Apache-2.0
"""A short form of the matrix on an emulated CernVM-FS mount, on every podman whose root is present.

``python -m tests.matrix --only mount`` runs all of it.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.matrix import deeds, deeds_stated, deeds_table
from tests.matrix.bench import Bench
from tests.matrix.cells import Cell
from tests.matrix.deed_images import APP
from tests.matrix.host import USER
from tests.matrix.run import run_cell
from tests.support.roots import GENERATIONS

_VERSIONS = [each.version for each in GENERATIONS]
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
        Cell(False, False, "flat", "root", mount=True),
        Cell(True, False, "flat", "foreign", own=True, mount=True),
    ],
    ids=lambda cell: cell.name.replace(" ", "-"),
)
def test_containers_see_what_a_pull_gives(bench: Bench, cell: Cell) -> None:
    outcome = run_cell(bench, cell, _FEW)
    assert outcome.problems == []
    assert outcome.images == len(_FEW)


def test_who_can_not_build_on_closed_files_is_told_before(bench: Bench, tools: Path) -> None:
    """By each sync, and by why. podman's own words don't tell the way round."""
    site = bench.site
    repository = site.shown(deeds.published(site), "foreign", mount=True)
    store = site.data / f"told-{bench.version}" / "store"
    store.parent.mkdir()
    said = site.sync(repository, store, user=USER, version=bench.version)
    assert "before you build on an image, or commit a container of it, pull the image" in said
    with bench.fresh(stores=[store], user=USER) as podman:
        ask = f"PATH={tools}:$PATH podman-cvmfs why --repository {repository} --store {store}"
        answer = podman.tool("sh", "-c", f"{ask} {site.name(APP.name)}", check=False).stdout
    assert f"before a build or commit: podman pull {site.name(APP.name)}" in answer, answer


def test_every_statement_is_of_a_deed() -> None:
    known = set(deeds.names())
    for failure in deeds_stated.FAILURES:
        assert known.issuperset(failure.deeds)
        for deed in failure.deeds:
            pairs = itertools.product(deeds.CELLS, _VERSIONS)
            assert any(deeds_stated.stated(deed, *pair) is failure for pair in pairs)


def test_any_other_outcome_is_told() -> None:
    cell, version = deeds.CELLS[0], _VERSIONS[0]
    failures = {name: deeds_stated.stated(name, cell, version) for name in deeds.names()}
    done = {name: each.words[0].upper() if each else "" for name, each in failures.items()}
    assert list(deeds_stated.unlike(done, cell, version)) == []
    for other in ("build: RUN, on two layers", "save", "app: can't write what is others'"):
        for said in {"", "no words that anybody stated"} - {done[other]}:
            (problem,) = deeds_stated.unlike({**done, other: said}, cell, version)
            assert problem.startswith(other)


def test_the_table_tells_all() -> None:
    table = deeds_table.table()
    rows = {line.split(" | ")[0][2:]: line for line in table.splitlines() if line[:2] == "| "}
    assert set(deeds.names()) <= set(rows)
    assert all(line.count(" | ") == len(deeds.CELLS) for line in rows.values())
    assert rows["push"].count("no (") == len(deeds.CELLS)
    assert "`Digest did not match`" in table
