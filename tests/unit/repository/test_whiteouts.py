# SPDX-License-Identifier: Apache-2.0
"""Finding and keeping what a layer deletes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.repository.tree import Tree, UnreadableError
from podman_cvmfs.repository.whiteouts import DirectoryFacts, Markers, from_json, parents_of, scan


def layer(root: Path, *paths: str) -> Markers:
    """Scan a layer with these files; a path that ends in a slash is a directory."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    return scan(Tree(str(root)))


def test_a_plain_layer(tmp_path: Path) -> None:
    markers = layer(tmp_path, "a/b/c", "a/wh.x", "empty/")
    assert markers == Markers() and markers.is_plain


def test_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    markers = layer(tmp_path, "a/.wh.x", "b/c/.wh..wh..opq", "b/c/new", ".wh.top", "d/e")
    assert markers.files == (".wh.top", "a/.wh.x", "b/c/.wh..wh..opq")
    assert markers.hidden == ("a/x", "top")
    assert markers.opaque == ("b/c",)
    assert set(markers.directories) == {"", "a", "b", "b/c"}
    assert not markers.is_plain


def test_an_opaque_root(tmp_path: Path) -> None:
    markers = layer(tmp_path, ".wh..wh..opq", "new")
    assert markers.opaque == ("",) and set(markers.directories) == {""}


def test_a_whiteout_beside_its_name_is_without_effect(tmp_path: Path) -> None:
    assert layer(tmp_path / "1", "a/.wh.x", "a/x").hidden == ()
    assert layer(tmp_path / "2", "a/.wh.x", "a/x/y").hidden == ()
    assert layer(tmp_path / "3", "a/.wh.x", "a/x/").hidden == (), "a directory made anew, empty"


def test_a_deleted_directory_whose_content_is_deleted_too(tmp_path: Path) -> None:
    """What "rm -r" leaves in the layers of some tools: the directory, with markers only."""
    markers = layer(tmp_path, "a/.wh.x", "a/x/.wh.y", "a/x/z/.wh.w", "a/keep")
    assert markers.files == ("a/.wh.x", "a/x")
    assert markers.hidden == () and set(markers.directories) == {"", "a"}


def test_markers_of_nothing_hide_nothing(tmp_path: Path) -> None:
    markers = layer(tmp_path, "a/.wh.", "a/.wh..", "a/.wh...", "a/b")
    assert markers.hidden == () and len(markers.files) == 3


def test_overlay_whiteouts_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mknod(tmp_path / "a/x", 0o020600, os.makedev(0, 0))
    markers = scan(Tree(str(tmp_path)))
    assert markers.native and markers.is_plain


def test_a_failing_read_is_no_clean_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer(tmp_path, "a/b", "c/d")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("/c"):
            raise OSError(5, os.strerror(5), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(RepositoryError, match="Input/output error"):
        scan(Tree(str(tmp_path)))


def test_what_may_not_be_read_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer(tmp_path, "a/.wh.b", "a/b/c", "root/x")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith(("/root", "/b")):
            raise PermissionError(13, os.strerror(13), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UnreadableError):
        list(Tree(str(tmp_path)).entries("root"))
    markers = scan(Tree(str(tmp_path)))
    assert markers.unread == ("a/b", "root")
    assert markers.hidden == () and markers.files == ("a/.wh.b",)


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=()), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
facts = st.builds(
    DirectoryFacts,
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    st.integers(-(2**63), 2**63 - 1),
)


@given(
    st.builds(
        Markers,
        *[st.lists(names, max_size=3).map(tuple)] * 3,
        st.booleans(),
        st.just(()),
        st.dictionaries(names, facts, max_size=3),
    )
)
def test_kept_markers_read_back(markers: Markers) -> None:
    assert from_json(markers.to_json()) == markers


@pytest.mark.parametrize("path", ["/etc", "a/../../x", "..", "a//b", "./a"])
def test_paths_that_lead_out_are_no_answer(path: str) -> None:
    assert from_json(Markers(hidden=(path,)).to_json()) is None
    assert from_json(Markers(directories={path: DirectoryFacts(0, 0, 0, 0)}).to_json()) is None


@given(st.binary(max_size=60))
def test_junk_is_no_answer(data: bytes) -> None:
    assert from_json(data) is None


def test_answers_are_kept_per_layer(tmp_path: Path) -> None:
    cache = BlobCache(str(tmp_path / "cache"))
    digest = Digest("a" * 64)
    assert cache.markers("/r", digest) is None
    markers = layer(tmp_path / "layer", "a/.wh.x")
    cache.keep_markers("/r", digest, markers)
    assert cache.markers("/r", digest) == markers
    assert cache.markers("/other", digest) is None, "what one says is nothing to another"
    (kept,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    kept.write_text('{"format": 99}')
    assert cache.markers("/r", digest) is None


def test_parents() -> None:
    assert parents_of("") == []
    assert parents_of("a") == [""]
    assert parents_of("a/b/c") == ["", "a", "a/b"]
