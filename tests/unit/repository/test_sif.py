# SPDX-License-Identifier: Apache-2.0
"""Repositories of Singularity's image files are told from those that aren't mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from podman_cvmfs.repository.collect import collect
from podman_cvmfs.repository.sif import holds_image_files
from podman_cvmfs.repository.tree import Tree

LAUNCH = b"#!/usr/bin/env run-singularity\n\0"


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("all/bwa:0.7.17--1", LAUNCH + b"SIF_MAGIC\x0001\0"),
        ("b/w/bwa:0.7.8", LAUNCH + b"hsqs"),  # of Singularity 2
        ("tool.sif", b"#!/opt/apptainer".ljust(32, b"\0") + b"SIF_MAGIC\x0001\0"),
    ],
)
def test_image_files(tmp_path: Path, path: str, data: bytes) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(data)
    assert holds_image_files(Tree(str(tmp_path)))
    found = collect([str(tmp_path)], ())
    error = found.down[str(tmp_path)]
    assert "holds Singularity's image files (SIF), not unpacked images" in error.message
    assert error.hint is not None and "mounted" not in error.hint


def test_others(tmp_path: Path) -> None:
    assert not holds_image_files(Tree(str(tmp_path / "missing")))
    for name, data in {"script": LAUNCH[:20], "empty": b"", "text": b"SIF_MAGIC"}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link").symlink_to("script")
    assert not holds_image_files(Tree(str(tmp_path)))
    error = collect([str(tmp_path)], ()).down[str(tmp_path)]
    assert error.hint == "is it mounted?"


def test_large_repositories_are_not_searched(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"d{number:02}").mkdir()
    (tmp_path / "d19/image").write_bytes(LAUNCH)
    assert not holds_image_files(Tree(str(tmp_path)))
