# SPDX-License-Identifier: Apache-2.0
"""Paths in DUCC's and OSG's repositories."""

from __future__ import annotations

import re

import pytest

from podman_cvmfs.repository import layout

HEX = "ab" + "0" * 62


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("", ""),
        ("r.io/x:1", "r.io/x:1"),
        (".metadata", ""),
        (".metadata/r.io/x:1", "r.io/x:1"),
        (".multiarch", ""),
        (".multiarch/arm64:v8", ""),
        (".multiarch/arm64:v8/r.io/x:1", "r.io/x:1"),
        (".metadata/.multiarch", ""),
        (".metadata/.multiarch/arm64", ""),
        (".metadata/.multiarch/arm64/r.io", "r.io"),
        (".metadatas/r.io", ".metadatas/r.io"),
        ("r.io/.multiarch/x:1", "r.io/.multiarch/x:1"),
    ],
)
def test_the_path_of_a_public_link(path: str, public: str) -> None:
    assert layout.public_path(path) == public


def test_directories_that_a_repository_may_lack() -> None:
    for directory in (".multiarch", ".metadata", ".metadata/.multiarch"):
        assert layout.may_lack(directory)
    assert layout.may_lack(".metadata/.multiarch/arm64")
    for directory in ("", "r.io", ".multiarch/arm64", ".metadata/r.io", ".layers"):
        assert not layout.may_lack(directory)
    assert not layout.may_lack(".metadata/.multiarch/arm64/r.io")


def test_an_image_is_described_where_its_link_is() -> None:
    assert layout.manifest_file("", "r.io/x:1") == ".metadata/r.io/x:1/manifest.json"
    place = layout.architecture_directory("arm64")
    described = layout.described_at(place, "r.io/x:1")
    assert described == ".metadata/.multiarch/arm64/r.io/x:1"
    assert layout.described_at(place, "") == ".metadata/.multiarch/arm64"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (layout.FLAT_PATTERN, layout.flat_directory(HEX)),
        (layout.LAYER_FILES_PATTERN, f"{layout.layer_directory(HEX)}/{layout.LAYERFS}"),
        (layout.OSG_ROOT_PATTERN, layout.osg_root(HEX)),
        (layout.OSG_ROOT_PATTERN, layout.osg_root_of_index(HEX)),
    ],
)
def test_patterns_match_the_paths_that_are_made(pattern: str, path: str) -> None:
    match = re.fullmatch(pattern, path)
    assert match is not None and set(match.groupdict().values()) <= {HEX, HEX[:2]}
    assert re.fullmatch(pattern, f"{path}/x") is None
    assert re.fullmatch(pattern, path[:-1]) is None


def test_ducc_repeats_the_first_digits() -> None:
    for pattern, path in (
        (layout.FLAT_PATTERN, layout.flat_directory(HEX)),
        (layout.LAYER_FILES_PATTERN, f"{layout.layer_directory(HEX)}/{layout.LAYERFS}"),
    ):
        assert re.fullmatch(pattern, path.replace("/ab/", "/cd/")) is None
