# SPDX-License-Identifier: Apache-2.0
"""Set-up of podman 6 beside an engine that reads no drop-ins of storage.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.podman.storage_conf.effective import read_effective
from podman_cvmfs.setup.plan import storage_drop_in
from tests.support.set_up import Machine, stores_of_users, tree_of, write
from tests.support.storage_confs import FEDORA, NEW, OLD, STORE


def stores_of(machine: Machine) -> list[tuple[str, ...]]:
    """The stores that podman 6 and an older engine get."""
    return [read_effective(machine.places, each).stores for each in (NEW, OLD)]


@pytest.mark.parametrize("where", ["", "vendor", "admin"])
@pytest.mark.parametrize("users", [False, True])
def test_both_get_the_store_once_and_undo_takes_it_back(
    root: Path, where: str, users: bool
) -> None:
    """Also if an earlier set-up has made drop-ins."""
    if where:
        write(root / where / "storage.conf", FEDORA)
    machine = Machine(root, NEW)
    before = tree_of(root)
    other = ("/usr/lib/containers/storage",) if where else ()
    for earlier in (False, True):
        if earlier:
            machine.set_up(users=users)
            assert stores_of(machine) == [(*other, STORE), other]
        assert machine.set_up(users=users, older=True).changes
        assert stores_of(machine) == [(*other, STORE)] * 2
        assert stores_of_users(machine) == ((*other, STORE) if users else other)
        assert machine.set_up(users=users, older=True).changes == []
        # Once the older engine has gone, nothing needs to change.
        assert machine.set_up(users=users).changes == []
        assert machine.undo() == []
        assert tree_of(root) == before


def test_a_package_s_drop_in_does_not_name_the_store_as_well(root: Path) -> None:
    write(root / "vendor/storage.rootful.conf.d/99-podman-cvmfs.conf", storage_drop_in([STORE]))
    before = tree_of(root)
    machine = Machine(root, NEW)
    assert machine.set_up(older=True).changes
    assert stores_of(machine) == [(STORE,)] * 2
    assert machine.set_up(older=True).changes == []
    machine.undo()
    assert tree_of(root) == before


def test_a_user_s_podman_goes_on_with_a_drop_in(root: Path) -> None:
    Machine(root, NEW, uid=1000).set_up(older=True)
    assert not (root / "user/storage.conf").exists()
