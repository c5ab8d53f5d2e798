# SPDX-License-Identifier: Apache-2.0
"""Runs cells of the matrix and prints the outcome as a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.matrix.cells import Cell, rules
from tests.matrix.guest import Guest, guest
from tests.matrix.host import USER, Machine
from tests.matrix.listing import Listed
from tests.matrix.site import Site, SyncError
from tests.support.comparison import unexpected


@dataclass
class Outcome:
    """What a cell gave: how many images were compared, and every unexpected thing."""

    images: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Bench:
    """One podman: its machine, and what it sees in images that it has pulled itself."""

    def __init__(self, site: Site, root: Path) -> None:
        self.site = site
        self.root = root
        self._pulled: dict[tuple[bool, bool], Mapping[str, Listed]] = {}
        self._count = 0

    @contextmanager
    def machine(self) -> Iterator[Machine]:
        """A fresh machine: two podmans with different storage must not share their state."""
        machine = Machine(self.root, self.site.data)
        try:
            yield machine
        finally:
            machine.close()

    def place(self) -> Path:
        """A new directory for a podman's state."""
        self._count += 1
        path = self.site.data / f"p{self._count}-{id(self) % 9973}"
        path.mkdir()
        return path

    @property
    def names(self) -> list[str]:
        """The full names of all images to compare."""
        return [self.site.name(image) for image in self.site.images]

    def pulled(self, rootless: bool, fuse: bool = False) -> Mapping[str, Listed]:
        """What containers of ordinarily pulled images see."""
        key = (rootless, fuse)
        if key not in self._pulled:
            with (
                self.machine() as machine,
                guest(
                    machine,
                    self.place(),
                    user=USER if rootless else None,
                    fuse=fuse,
                    insecure=[self.site.registry.address],
                ) as plain,
            ):
                plain.run("pull", "--quiet", *self.names)
                self._pulled[key] = plain.listings(self.names)
        return self._pulled[key]

    def version(self) -> str:
        """The version of podman."""
        with self.machine() as machine, guest(machine, self.place()) as podman:
            return podman.version

    @contextmanager
    def podman(self, cell: Cell, store: Path) -> Iterator[Guest]:
        """A podman as the cell wants it, on the store."""
        with (
            self.machine() as machine,
            guest(
                machine,
                self.place(),
                stores=[store],
                user=USER if cell.rootless else None,
                fuse=cell.fuse,
                mountopt=cell.mountopt,
                insecure=[self.site.registry.address],
            ) as podman,
        ):
            yield podman


def run_cell(bench: Bench, cell: Cell, version: str) -> Outcome:
    """Compare all images in one cell."""
    start = time.monotonic()
    outcome = Outcome()
    try:
        store = store_of(bench, cell, version)
    except SyncError as err:
        outcome.problems.append(f"sync: {err}")
        return outcome
    pulled = bench.pulled(cell.rootless)
    there = bench.pulled(cell.rootless, fuse=True) if cell.fuse else {}
    with bench.podman(cell, store) as podman:
        seen = podman.listings(bench.names)
    for name in bench.names:
        outcome.images += 1
        outcome.problems += [
            f"{name.partition('/')[2]}: {line}"
            for line in compare(pulled[name], seen[name], cell, there.get(name))
        ]
    outcome.seconds = time.monotonic() - start
    return outcome


_refused: dict[Path, SyncError] = {}


def store_of(bench: Bench, cell: Cell, version: str) -> Path:
    """Write the cell's store, or find it where an earlier cell wrote it. Raises SyncError."""
    kind = f"{'u' if cell.own else 's'}-{cell.owner}-{cell.view}-{cell.layout}"
    store = bench.site.data / kind / "store"
    if store in _refused:
        raise _refused[store]
    if not store.exists():
        store.parent.mkdir()
        options = ("--view", cell.view, "--overlay", cell.layout)
        repository, user = bench.site.repository(cell.owner), USER if cell.own else None
        try:
            bench.site.sync(repository, store, *options, user=user, version=version)
        except SyncError as err:
            _refused[store] = err
            raise
    return store


def compare(wanted: Listed, seen: Listed, cell: Cell, there: Listed | None) -> Sequence[str]:
    """What is not as it should be with one image in one cell."""
    for listed in (wanted, seen, there):
        if isinstance(listed, str):
            return [listed]
    return [str(each) for each in unexpected(wanted, seen, rules(cell, there))]


def log(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)
