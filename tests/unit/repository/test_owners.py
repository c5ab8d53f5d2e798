# SPDX-License-Identifier: Apache-2.0
"""Whom the files of repositories belong to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podman_cvmfs.repository.owners import (
    are_foreign,
    is_a_strangers,
    owner_of,
    owner_of_first,
    owners_in,
    serve_users,
    strangers_among,
)
from podman_cvmfs.repository.tree import Tree
from tests.support.required import required


@pytest.mark.parametrize("name", [".flat", ".layers", ".images"])
def test_one_directory_tells_the_owner(tmp_path: Path, name: str) -> None:
    assert owner_of(Tree(str(tmp_path))) is None
    (tmp_path / name).mkdir()
    assert owner_of(Tree(str(tmp_path))) == os.geteuid()
    absent = str(tmp_path / "absent")
    assert owner_of_first([absent]) is None
    assert owner_of_first([absent, str(tmp_path)]) == (str(tmp_path), os.geteuid())


@pytest.mark.parametrize("root", [".flat/ab/abc", ".images/ab/cd", ".layers/ab/abc/layerfs"])
def test_owners_of_an_image_s_files(tmp_path: Path, root: str) -> None:
    if os.geteuid() != 0:
        required("only root gives files away")
    assert owners_in(str(tmp_path)) == ()
    files = tmp_path / root
    files.mkdir(parents=True)
    (files / "etc").mkdir()
    os.chown(files / "etc", 1234, 0)
    assert owners_in(str(tmp_path)) == (0, 1234)
    assert owners_in(str(tmp_path / "absent")) == ()


def test_what_owners_mean() -> None:
    assert not are_foreign((), 5) and not are_foreign((0, 5), 5) and are_foreign((0,), 5)
    assert serve_users(()) and serve_users((0, 1000))
    assert not serve_users((0,)) and not serve_users((999, 65534))


@pytest.mark.parametrize(
    ("ids", "is_strange"),
    [((1000, 1000), False), ((1000, 50), True), ((999, 1000), True), ((0, 0), True)],
)
def test_who_is_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int], is_strange: bool
) -> None:
    """Another user, and a group that isn't the user's own: podman maps no other."""
    if os.geteuid() != 0:
        required("only root gives files away")
    os.chown(tmp_path, *ids)
    assert not is_a_strangers(Tree(str(tmp_path))), "root needs nobody's leave"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    assert is_a_strangers(Tree(str(tmp_path))) == is_strange
    repositories = [str(tmp_path), str(tmp_path / "absent")]
    assert strangers_among(repositories) == frozenset(repositories[:1] if is_strange else [])
