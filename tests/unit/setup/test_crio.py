# SPDX-License-Identifier: Apache-2.0
"""Set-up of CRI-O: its drop-in, and the way back."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from podman_cvmfs.cli import setup as setup_command
from podman_cvmfs.cli.setup import command
from podman_cvmfs.errors import InputError
from podman_cvmfs.podman.crio_conf import RESTART, read_crio_conf
from podman_cvmfs.setup import crio
from podman_cvmfs.setup import record as records
from podman_cvmfs.setup.request import Plan, SetupRequest
from podman_cvmfs.store.store import Store
from tests.support.set_up import MIDDLE, tree_of, undo, write
from tests.support.small_store import put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"))
    put(made, "ab")
    return made


class Node:
    """Set-up of CRI-O with its files in ``root``."""

    def __init__(self, root: Path, store: str) -> None:
        self.directory = str(root)
        self.store = store
        self.manifest = str(root.parent / "state/setup.json")

    def set_up(self, store: str = "") -> Plan:
        plan = Plan()
        earlier = records.load(self.manifest)
        request = SetupRequest(store or self.store, earlier=earlier)
        crio.put_crio(plan, request, self.directory)
        records.perform(self.manifest, plan.changes, [request.store], ())
        return plan

    def undo(self) -> list[str]:
        return undo(self.manifest)


@pytest.fixture
def node(root: Path, store: Store) -> Node:
    return Node(root, store.path)


def test_a_drop_in_names_the_store_and_undo_removes_it(root: Path, node: Node) -> None:
    write(root / "crio.conf", b'[crio]\nroot = "/srv"\n[crio.image]\npinned_images = ["x:1"]\n')
    before = tree_of(root)
    plan = node.set_up()
    assert [change.path for change in plan.changes] == [crio.drop_in(node.directory)]
    assert plan.remarks == [RESTART]
    conf = read_crio_conf(node.directory)
    assert (conf.stores, conf.internal_repair, conf.root) == ((node.store,), False, "/srv")
    # The array replaces that of crio.conf, so it repeats its values.
    pins = ("x:1", "r/a:*", "r/b:*", "retired.podman-cvmfs.invalid/*")
    assert conf.pinned_images == pins
    again = node.set_up()
    assert (again.changes, again.remarks) == ([], [])
    assert node.undo() == []
    assert tree_of(root) == before
    assert not os.path.exists(node.manifest)


def test_nothing_else_is_left_where_cri_o_reads_every_file(root: Path, node: Node) -> None:
    node.set_up()
    write(root / "crio.conf.d/10-pins", b'[crio.image]\npinned_images = ["y:1"]\n')
    assert node.set_up().changes
    assert sorted(os.listdir(root / "crio.conf.d")) == ["10-pins", "99-podman-cvmfs.conf"]
    assert "y:1" in read_crio_conf(node.directory).pinned_images
    node.undo()
    assert os.listdir(root / "crio.conf.d") == ["10-pins"]


def test_a_store_that_is_named_already_is_not_named_twice(root: Path, node: Node) -> None:
    link = root.parent / "link"
    link.symlink_to(node.store)
    text = f'[crio]\nstorage_option = ["overlay.imagestore={link}"]\n'
    write(root / "crio.conf", text.encode())
    node.set_up()
    assert read_crio_conf(node.directory).stores == (str(link),)


def test_a_path_that_cri_o_would_take_apart_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="its path has a comma"):
        Node(root, "/srv/a,b").set_up()


def test_another_store_takes_the_place_of_the_first(root: Path, node: Node) -> None:
    node.set_up()
    node.set_up(f"{root}/other")
    assert read_crio_conf(node.directory).stores == (f"{root}/other",)


def test_an_edited_drop_in_is_left_to_its_editor(root: Path, node: Node) -> None:
    node.set_up()
    path = Path(crio.drop_in(node.directory))
    path.write_text("[crio]\n")
    assert "look at it and remove it" in node.undo()[0]
    assert path.read_text() == "[crio]\n"


def test_somebody_else_s_file_of_that_name_stays(node: Node) -> None:
    write(Path(crio.drop_in(node.directory)), b"")
    with pytest.raises(InputError, match="setup has not made it"):
        node.set_up()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[crio.image]\npause_image = "r/a:1"\n', "hostUsers: false"),
        ("", ""),
    ],
)
def test_a_pause_image_in_the_store_is_told(root: Path, node: Node, text: str, told: str) -> None:
    write(root / "crio.conf", text.encode())
    remarks = [each for each in node.set_up().remarks if each != RESTART]
    assert [told in each for each in remarks] == [True] * bool(told)


def test_what_an_empty_store_and_a_later_file_mean_is_told(root: Path, tmp_path: Path) -> None:
    write(root / "crio.conf.d/99-z", b"")
    remarks = Node(root, str(tmp_path / "none")).set_up().remarks
    assert [key in each for each, key in zip(remarks[1:], ("no images yet", "99-z"))] == [True] * 2


def test_images_that_need_the_store_are_told_when_it_is_taken_back(root: Path, node: Node) -> None:
    """CRI-O then fails at every list: layer not known."""
    graph = root.parent / "graph"
    write(root / "crio.conf", f'[crio]\nroot = "{graph}"\n'.encode())
    changes = node.set_up().changes
    assert crio.undo_remarks(changes, [node.store], node.directory) == [RESTART]
    assert crio.undo_remarks(changes[1:], [node.store], node.directory) == []
    layer = json.loads(Path(node.store, "overlay-layers/layers.json").read_text())[0]["id"]
    records = [{"id": f"{n}" * 64, "names": [f"r/x:{n}"], "layer": layer} for n in range(7)]
    write(graph / "overlay-images/images.json", json.dumps(records).encode())
    found = crio.undo_remarks(changes, [node.store, f"{root}/none"], node.directory)
    assert found[1:] == [RESTART]
    assert f"image r/x:0 in {graph}" in found[0] and found[0].endswith(", ..")
    assert "r/x:5" not in found[0]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path, store: Store
) -> Callable[..., Result]:
    """Sets up for root on a machine with CRI-O and without podman."""
    (tmp_path / "config.toml").write_text(f'store = "{store.path}"\n')
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(records, "SYSTEM_MANIFEST", str(tmp_path / "setup.json"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("put_crio", "put_hint", "was_set_up", "has_crio", "undo_remarks"):
        there = functools.partial(getattr(setup_command, name), directory=str(root))
        monkeypatch.setattr(setup_command, name, there)
    return lambda *args: CliRunner().invoke(command, list(args))


def test_no_podman_is_needed(
    run: Callable[..., Result], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    error = run().exception
    assert isinstance(error, InputError)
    assert error.hint == "use --crio alone to set up CRI-O only"
    assert "+internal_repair = false" in run("--crio", "--dry-run").output
    assert not os.listdir(root)
    made = f"made {root}/crio.conf.d/99-podman-cvmfs.conf"
    assert run("--crio").exit_code == 0
    assert caplog.messages[-2:] == [made, RESTART]
    # Later runs keep it.
    assert run().exit_code == 0
    assert run("--undo").exit_code == 0
    assert caplog.messages[-1] == RESTART
    assert not os.listdir(root)


def test_set_up_of_podman_alone_says_what_to_add(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(setup_command, "find_generation", lambda: MIDDLE)
    podman = tmp_path / "podman"
    podman.touch(0o755)
    (tmp_path / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    run("--dry-run")
    assert "run 'podman-cvmfs setup --crio' too" in caplog.text
    assert not os.listdir(root)
