# SPDX-License-Identifier: Apache-2.0
"""Runs cells of the matrix: compares all images, starts containers and lets them write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.matrix import checks
from tests.matrix.bench import Bench, Outcome
from tests.matrix.cells import Cell, rules
from tests.matrix.host import USER
from tests.matrix.listing import Listed
from tests.matrix.site import SyncError
from tests.support.comparison import unexpected


def run_cell(bench: Bench, cell: Cell, images: Sequence[str] | None = None) -> Outcome:
    """Compare the ``images`` (names in ``Site.images``; None: all) in one cell and run some."""
    outcome = Outcome()
    some = [bench.site.name(image) for image in images or ()]
    names = some or bench.names
    try:
        store = store_of(bench, cell)
    except SyncError as err:
        outcome.problems.append(f"sync: {err}")
        return outcome
    pulled = bench.pulled(cell.rootless, names=some)
    there = bench.pulled(cell.rootless, fuse=True, names=some) if cell.fuse else {}
    user = USER if cell.rootless else None
    with bench.fresh(stores=[store], user=user, fuse=cell.fuse, mountopt=cell.mountopt) as podman:
        seen = podman.listings(names)
        checks.run_images(podman, cell, outcome, bench.site)
    for name in names:
        outcome.images += 1
        image = name.partition("/")[2]
        layers = len(bench.site.images[image].image.layers)
        outcome.add(image, compare(pulled[name], seen[name], cell, layers, there.get(name)))
    if outcome.said:
        outcome.said = f"{outcome.images} same, {outcome.said}"
    return outcome


def map_ids(bench: Bench, cell: Cell) -> Outcome:
    """Try the user namespaces in one cell."""
    user = USER if cell.rootless else None
    options = {"user": user, "fuse": cell.fuse, "mountopt": cell.mountopt}
    with bench.fresh(stores=[store_of(bench, cell)], **options) as podman:
        return Outcome(said=checks.namespaces(bench, cell, podman))


_refused: dict[Path, SyncError] = {}


def store_of(bench: Bench, cell: Cell) -> Path:
    """Write the cell's store, or find it where an earlier cell wrote it. Raises SyncError."""
    whose = "u" if cell.own else "s" if cell.shared else "r"
    kind = f"{whose}-{cell.owner}-{cell.view}-{cell.layout}{'-m' if cell.mount else ''}"
    store = bench.site.data / kind / "store"
    if store in _refused:
        raise _refused[store]
    if not store.exists():
        store.parent.mkdir()
        sharing = ["--shared"] if cell.shared else []
        options = ("--view", cell.view, "--overlay", cell.layout, *sharing)
        repository = bench.site.shown(bench.site.repository(), cell.owner, cell.mount)
        user = USER if cell.own else None
        try:
            bench.site.sync(repository, store, *options, user=user, version=bench.version)
        except SyncError as err:
            _refused[store] = err
            raise
    return store


def compare(
    wanted: Listed, seen: Listed, cell: Cell, layers: int, there: Listed | None
) -> Sequence[object]:
    """What is not as it should be with one image of so many layers in one cell."""
    if isinstance(wanted, str):
        return [wanted]
    if isinstance(seen, str):
        return [seen]
    if isinstance(there, str):
        return [there]
    return unexpected(wanted, seen, rules(cell, layers, there))
