# SPDX-License-Identifier: Apache-2.0
"""doctor looks at the machine: users, disks, wish lists, registries."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podman_cvmfs.doctor.facts import User
from podman_cvmfs.doctor.look.machine import (
    look_at_disks,
    look_at_registries,
    look_at_user,
    look_at_wish_lists,
)


def test_subordinate_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, none = tmp_path / "subuid", str(tmp_path / "none")
    files = {"/etc/subuid": str(path), "/etc/subgid": none, "/etc/nsswitch.conf": none}
    real = open

    def redirected(file: Any, *args: Any, **more: Any) -> Any:
        return real(files.get(file, file), *args, **more)

    monkeypatch.setattr("builtins.open", redirected)

    def seen_by(name: str, uid: int) -> User:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=name))
        return look_at_user()

    path.write_text("u:100000:65536\n1000:300000:10\nother:1:1\nbroken\nu:x:y\n")
    found = seen_by("u", 1000)
    assert (found.subuids, found.subgids, found.free_id) == (65546, 0, 300010)
    assert seen_by("nobody", 1).subuids == 0
    files["/etc/subuid"] = none
    assert (seen_by("u", 1000).subuids, seen_by("u", 1000).free_id) == (0, 100_000)


def test_disks(tmp_path: Path) -> None:
    (disk,) = look_at_disks({"store": str(tmp_path / "not/made/yet")}, 10)
    assert (disk.what, disk.path) == ("store", str(tmp_path))
    assert 0 < disk.free <= disk.size


def test_wish_lists_that_a_sync_refuses(tmp_path: Path) -> None:
    for name, text in {"good": "a.org/b:1\n", "empty": "# none\n", "x.yaml": "x: 1\n"}.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "hangs")
    names = ("good", "none", "empty", "x.yaml", "hangs")
    found = look_at_wish_lists([f"{tmp_path}/{each}" for each in names], "", 1)
    assert [str(tmp_path / each) in text for each, text in zip(names[1:], found)] == [True] * 4
    assert look_at_wish_lists([str(tmp_path / "good")], "", 10) == {}


def test_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    path.write_text('[[registry]]\nlocation = "bad.org"\nblocked = true\n')
    found = look_at_registries(["good.org/a:1", "bad.org/b:1", "no name at all!"])
    assert set(found.blocked) == {"bad.org/b:1"}
    path.write_text("[[registry]\n")
    assert str(path) in look_at_registries([]).problem
