# SPDX-License-Identifier: Apache-2.0
"""Lists of directories whose files are asked one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.lists import from_walk
from podman_cvmfs.lists.layer_tree import apply_markers, markers_in
from podman_cvmfs.repository.tree import Tree
from tests.support.layers import MTIME
from tests.support.unpacked_layer import unlike


def _names(root: Path, is_served: bool = False) -> set[str]:
    return {each.path for each in from_walk.tree_of(Tree(str(root)), is_served).entries()}


def test_a_directory_is_told_as_it_is(tmp_path: Path) -> None:
    top = tmp_path / "layer"
    (top / "d/e").mkdir(parents=True)
    (top / "d/file").write_text("content")
    os.link(top / "d/file", top / "a")
    (top / "d/e/link").symlink_to("../file")
    os.mkfifo(top / "fifo")
    (top / "d/file").chmod(0o4711)
    for path in (*top.rglob("*"), top):
        os.utime(path, ns=(0, MTIME * 10**9 + 7), follow_symlinks=False)
    entries = [*from_walk.tree_of(Tree(str(top)), False).entries()]
    assert [*unlike(entries, top)] == []
    assert [each.hardlink for each in entries if each.path == "d/file"] == ["a"]


def test_what_the_publisher_adds_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in (".cvmfscatalog", "d/.cvmfscatalog", "d/x", "d/.cvmfsbundle-x"):
        (tmp_path / name).touch()
    assert _names(tmp_path, is_served=True) == {"", "d", "d/.cvmfscatalog", "d/x"}
    assert ".cvmfscatalog" in _names(tmp_path)


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is no directory"):
        _names(tmp_path / "missing")


def test_markers_become_what_they_mean(tmp_path: Path) -> None:
    for name in ("d", "gone", "opaque", "kept"):
        (tmp_path / name).mkdir()
    for name in (".wh.a", "d/.wh.b", "d/c", ".wh.gone", "gone/.wh.x", "opaque/.wh..wh..opq"):
        (tmp_path / name).touch()
    for name in (".wh.kept", "kept/file"):
        (tmp_path / name).touch()
    tree = from_walk.tree_of(Tree(str(tmp_path)), False)
    apply_markers(tree, markers_in(tree, str(tmp_path)))
    found = {each.path: each for each in tree.entries()}
    assert found.keys() == {"", "a", "d", "d/b", "d/c", "gone", "kept", "kept/file", "opaque"}
    assert {path for path, each in found.items() if each.is_whiteout} == {"a", "d/b", "gone"}
    assert {path for path, each in found.items() if each.is_opaque} == {"opaque"}
