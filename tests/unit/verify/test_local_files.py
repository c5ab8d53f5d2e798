# SPDX-License-Identifier: Apache-2.0
"""Files that an ordinary user's store holds: copies that lie above an image's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.plan.lay_out import view_of
from podman_cvmfs.plan.make import make_plan, storable_image
from podman_cvmfs.plan.retirement import Retention
from podman_cvmfs.resolve.skeleton import Skeleton
from podman_cvmfs.settings.policy import Policy
from podman_cvmfs.store.records import LocalPart, Node, Piece
from podman_cvmfs.store.store import Store
from podman_cvmfs.verify.fault import Kind
from podman_cvmfs.verify.store import verify
from tests.support.resolved import image
from tests.support.stores import replaced

USER, OTHER = 1234, 1235
PASSWD = Node("etc/passwd", mode=0o640, mtime_ns=6_000_000_007, content=b"root:x:0:0::/:\n")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A user's store with a copy in a skeleton."""
    repository = tmp_path / "r"
    skeleton = Skeleton((Node(""), Node("etc", mode=0o775)), files=(PASSWD,))
    found = replace(image("a", "a"), skeleton=skeleton)
    made = Store(str(tmp_path / "store"))
    storable = storable_image(found, view_of(found, Policy()), str(repository))
    names = {parse_repository_path("r/a:1"): found.source_id.hex}
    with made.opened() as current:
        plan = make_plan(
            current, names, {found.source_id.hex: storable}, str(Policy()), Retention(1000)
        )
        made.replace(plan.content, plan.layers, plan.images, plan.pieces)
    subprocess.run(["chown", "-hR", f"{USER}:{USER}", made.path], check=True)
    return Path(made.path)


def copy_in(store: Path) -> Path:
    (found,) = store.glob("pool/layers/*/diff/etc/passwd")
    return found


def told(store: Path) -> list[tuple[str, Kind | None]]:
    """What verify says of the pool; the repository isn't there."""
    found = verify(str(store)).findings
    return [(each.what, each.kind) for each in found if "diff leads to" not in each.what]


@pytest.mark.usefixtures("as_root")
def test_a_copy_is_as_it_was_written(store: Path) -> None:
    path = copy_in(store)
    attributes = path.stat()
    assert path.read_bytes() == PASSWD.content
    assert (attributes.st_mode & 0o7777, attributes.st_mtime_ns) == (0o640, PASSWD.mtime_ns)
    assert not [each for each in told(store) if "changed" in each[0] or "put there" in each[0]]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"me:x:0:0::/:\n"), "has been changed"),
        (lambda path: path.chmod(0o644), "has been changed"),
        (lambda path: os.utime(path), "has been changed"),
        (lambda path: os.truncate(path, 1 << 21), "File too large"),
        (lambda path: os.chown(path, OTHER, OTHER), "no sync has put there"),
        (lambda path: replaced(path, os.mkfifo), "no sync has put there"),
    ],
)
def test_a_copy_that_was_changed_is_found(
    store: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(copy_in(store))
    assert any(words in what for what, _ in told(store)), told(store)


@pytest.mark.usefixtures("as_root")
def test_root_s_stores_hold_no_files(store: Path) -> None:
    subprocess.run(["chown", "-hR", "0:0", store], check=True)
    assert Kind.PLANTED in {kind for _, kind in told(store)}


def test_the_id_of_a_piece_without_files_is_what_it_was() -> None:
    """Stores that are synced already know their pieces by it."""
    nodes = (
        Node("", mode=0o555),
        Node("etc", mtime_ns=5, owner=(0, 0)),
        Node("x", is_whiteout=True),
        Node("o", opaque=True),
    )
    assert Piece.of(LocalPart(nodes)).piece_id == (
        "22ab99b9376163817485a3ff1cd7d4d3dc0649cfcfcbaa0ed7b3eb7833a97096"
    )
    other = Node(PASSWD.path, mode=PASSWD.mode, mtime_ns=PASSWD.mtime_ns, content=b"")
    ids = {Piece.of(LocalPart((each,))).piece_id for each in (PASSWD, other, Node("etc/passwd"))}
    assert len(ids) == 3
