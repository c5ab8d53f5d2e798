# SPDX-License-Identifier: Apache-2.0
"""Set-up on the files of a machine, all below one directory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.effective import Places, read_effective
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.setup import record as records
from podman_cvmfs.setup.changes import make
from podman_cvmfs.setup.plan import plan_setup, serves
from podman_cvmfs.setup.request import Plan, SetupRequest
from tests.support.storage_confs import NEW, OLD, STORE

MIDDLE = Generation("5.4.2", drop_ins=False, appends=True)
CVMFS = "/cvmfs:/cvmfs:ro,rslave"
every_generation = pytest.mark.parametrize(
    "generation", [OLD, MIDDLE, NEW], ids=lambda generation: generation.version
)


def places_of(root: Path, uid: int = 0, **options: str) -> Places:
    """The places of a machine with all its files below ``root``."""
    names = ("vendor", "admin", "user", "graph")
    vendor, admin, user, graph = (str(root / name) for name in names)
    return Places(uid, vendor, admin, user, graph, **options)


def write(path: Path, data: bytes) -> Path:
    """Write a file in directories that need not be there; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def tree_of(root: Path) -> dict[str, tuple[bytes | str | None, int]]:
    """Every path below ``root`` with its content or target, and mode."""
    found: dict[str, tuple[bytes | str | None, int]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = (os.readlink(path), 0)
        else:
            data = path.read_bytes() if path.is_file() else None
            found[str(path)] = (data, path.stat().st_mode)
    return found


def undo(path: str) -> list[str]:
    """Take back all that the record at ``path`` says; return what there is to say."""
    manifest = records.load(path)
    changes, remarks = records.plan_undo(manifest)
    for change in changes:
        make(change)
    records.finish_undo(path, manifest)
    return remarks


class Machine:
    """Set-up on files below one directory."""

    def __init__(self, root: Path, generation: Generation, **options: object) -> None:
        self.root = root
        self.generation = generation
        self.places = replace(places_of(root), **options)  # type: ignore[arg-type]
        self.manifest = str(root.parent / f"{root.name}.state/setup.json")

    def plan(self, store: str = STORE, **request: object) -> Plan:
        """What set-up would do."""
        earlier = records.load(self.manifest)
        wanted = SetupRequest(store, earlier=earlier, **request)  # type: ignore[arg-type]
        return plan_setup(self.places, self.generation, wanted, environment_files=False)

    def set_up(self, store: str = STORE, **request: object) -> Plan:
        """Set up; return what was done."""
        plan = self.plan(store, **request)
        volumes = request.get("volumes", ())
        assert isinstance(volumes, tuple)
        records.perform(self.manifest, plan.changes, [store], volumes)
        return plan

    def undo(self) -> list[str]:
        """Take all back; return what there is to say."""
        return undo(self.manifest)

    def serves(self, store: str = STORE) -> bool:
        """Whether podman gets the store."""
        return serves(self.places, self.generation, SetupRequest(store))


def stores_of_users(machine: Machine) -> tuple[str, ...]:
    """The stores that an ordinary user of podman 6 gets."""
    user = Places.of_user(4242, str(machine.root / "home"), machine.places)
    return read_effective(user, NEW).stores
