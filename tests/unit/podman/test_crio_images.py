# SPDX-License-Identifier: Apache-2.0
"""Patterns of images that CRI-O pins."""

from __future__ import annotations

import pytest

from podman_cvmfs.podman.crio_images import is_pause, pins_for, unpinned

NAMES = (
    "docker.io/library/debian:12",
    "docker.io/library/python@sha256:" + "1" * 64,
    "registry.example.org:5000/app:1",
)


def test_a_pattern_pins_a_registry_s_first_directory() -> None:
    pins = pins_for(NAMES)
    assert pins == ("docker.io/library/*", "registry.example.org:5000/app:*")
    assert not unpinned(NAMES, pins)
    assert unpinned(["docker.io/other/debian:12", "registry.example.org:5000/b:1"], pins)


@pytest.mark.parametrize(
    ("pattern", "pinned"),
    [
        ("docker.io/library/debian:12", True),
        ("DOCKER.io/library/Debian:12", True),
        ("docker.io/library/debian", False),
        ("library/debian:12", False),
        ("docker.io/library/*", True),
        ("library/*", True),  # CRI-O looks for it anywhere
        ("*debian*", True),
        ("*", True),
        ("docker.io/lib.ary/*", False),
    ],
)
def test_patterns_are_those_of_cri_o(pattern: str, pinned: bool) -> None:
    assert unpinned(NAMES[:1], [pattern]) == (() if pinned else NAMES[:1])


def test_the_pause_image_is_the_configured_one_or_the_default() -> None:
    assert is_pause("registry.k8s.io/pause:3.10.1", "")
    assert not is_pause("registry.k8s.io/pause:3.10.1", "example.org/pause:1")
    assert is_pause("example.org/pause:1", "example.org/pause:1")
    assert not is_pause("docker.io/library/debian:12", "")
