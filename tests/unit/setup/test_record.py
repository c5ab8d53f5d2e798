# SPDX-License-Identifier: Apache-2.0
"""Set-up records its changes and takes them back, even after it was cut off."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.podman.storage_conf.generation import Generation
from podman_cvmfs.setup import record as records
from tests.support.set_up import CVMFS, MIDDLE, Machine, tree_of, write
from tests.support.storage_confs import FEDORA, OLD, SHAPES


@settings(deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.sampled_from([OLD, MIDDLE]), st.integers(1, 3))
def test_undo_restores_every_byte(shape: str, generation: Generation, times: int) -> None:
    """However often it was set up, with another store or mounts in between."""
    # Which podman 4 can't read.
    assume(shape != "byte order mark" or generation != OLD)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        write(root / "admin/storage.conf", SHAPES[shape])
        machine = Machine(root, generation)
        before = tree_of(root)
        for number in range(times):
            machine.set_up(f"/store{number}", volumes=(CVMFS,) * (number % 2))
        assert machine.undo() == []
        assert tree_of(root) == before


def test_what_others_changed_since_is_kept(root: Path) -> None:
    path = write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    path.write_bytes(path.read_bytes() + b"# mine\n")
    (remark,) = machine.undo()
    assert "changed since" in remark
    assert path.read_bytes() == FEDORA + b"# mine\n"


def test_change_of_others_between_two_set_ups_is_kept(root: Path) -> None:
    path = write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    path.write_bytes(path.read_bytes() + b"# mine\n")
    machine.set_up("/other")
    assert machine.undo() == []
    assert path.read_bytes() == FEDORA + b"# mine\n"


def test_lost_backup_costs_only_our_entry(root: Path) -> None:
    path = write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    os.unlink(f"{path}.podman-cvmfs-backup")
    machine.set_up("/other")
    machine.undo()
    assert path.read_bytes() == FEDORA


def test_file_removed_since_stays_removed(root: Path) -> None:
    path = write(root / "admin/storage.conf", FEDORA)
    machine = Machine(root, OLD)
    machine.set_up()
    path.unlink()
    (remark,) = machine.undo()
    assert "removed since" in remark and not path.exists()


@pytest.mark.parametrize("cut", range(8))
def test_set_up_cut_off_anywhere_can_be_undone(
    root: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "admin/storage.conf", FEDORA)
    before = tree_of(root)
    machine = Machine(root, OLD)
    cut_off(machine, cut, monkeypatch)
    assert machine.undo() == []
    assert tree_of(root) == before


@pytest.mark.parametrize("cut", range(4))
def test_second_set_up_cut_off_anywhere_can_be_undone(
    root: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "admin/storage.conf", FEDORA)
    before = tree_of(root)
    machine = Machine(root, OLD)
    machine.set_up("/first")
    cut_off(machine, cut, monkeypatch)
    assert machine.undo() == []
    assert tree_of(root) == before


def cut_off(machine: Machine, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up with an interrupt before the file number ``cut`` is in its place."""
    left = [cut]
    real = os.replace

    def limited(source: str, target: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", limited)
    with contextlib.suppress(KeyboardInterrupt):
        machine.set_up(volumes=(CVMFS,))
    monkeypatch.undo()


def test_a_set_up_that_fails_can_be_undone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(root, OLD)
    write(root / "admin/storage.conf", FEDORA)
    real = os.replace

    def full(source: str, target: str) -> None:
        if not target.endswith("setup.json"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PodmanCvmfsError, match="No space left") as caught:
        machine.set_up()
    assert "'podman-cvmfs setup --undo' undoes" in (caught.value.hint or "")


def test_foreign_record_is_refused(tmp_path: Path) -> None:
    for text in ("[]", "{", '{"version": 2}', '{"version": 1}'):
        path = write(tmp_path / "setup.json", text.encode())
        with pytest.raises(PodmanCvmfsError, match="not a record"):
            records.load(str(path))
