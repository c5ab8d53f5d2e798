# SPDX-License-Identifier: Apache-2.0
"""Changes of files: written whole or not at all, and shown before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.setup.changes import Change, as_diff, make
from tests.support.set_up import Machine, write
from tests.support.storage_confs import FEDORA, OLD, STORE


def test_link_stays_and_mode_and_owner_too(root: Path) -> None:
    target = write(root / "managed/storage.conf", FEDORA)
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 1234, 4321)
    owner = (target.stat().st_uid, target.stat().st_gid)
    (root / "admin").mkdir()
    link = root / "admin/storage.conf"
    link.symlink_to("../managed/storage.conf")
    machine = Machine(root, OLD)
    machine.set_up()
    assert STORE in target.read_text() and link.is_symlink()
    for path in (target, target):
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, *owner)
        machine.undo()
    assert target.read_bytes() == FEDORA


def test_full_disk_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PodmanCvmfsError, match="No space left") as caught:
        make(Change(str(root / "a/file"), None, b"x"))
    assert list((root / "a").iterdir()) == []
    # It may be part of undoing.
    assert "--undo" not in (caught.value.hint or "")


def test_diff_shows_what_changes_and_no_control_characters() -> None:
    change = Change("/etc/x.conf", b"one\ntwo\x1b[2J\n", b"one\nthree\n")
    assert as_diff([change]) == (
        "--- /etc/x.conf\n+++ /etc/x.conf\n@@ -1,2 +1,2 @@\n one\n-two\\x1b[2J\n+three\n"
    )
    assert as_diff([Change("/n", None, b"a\n")]) == "--- /dev/null\n+++ /n\n@@ -0,0 +1 @@\n+a\n"
