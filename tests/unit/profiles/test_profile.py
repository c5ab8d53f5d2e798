# SPDX-License-Identifier: Apache-2.0
"""The format of profiles: what is taken, what is refused, and how several become one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.profiles.profile import (
    MAX_FILES,
    MAX_RANGES,
    Profile,
    Use,
    merge,
    parse_profile,
    render_profile,
)

IMAGE = "a" * 64
GOOD = {"format": 1, "image": IMAGE, "files": [{"path": "usr/bin/python3"}]}


def parse(document: Any) -> Profile:
    return parse_profile(json.dumps(document).encode(), IMAGE, "the profile")


def test_what_is_written_is_read() -> None:
    profile = Profile(
        IMAGE, (Use("usr/lib/b.so", ((0, 10), (20, 5))), Use("a"), Use("latin-\udce9"))
    )
    data = render_profile(profile)
    assert data.isascii()
    assert parse_profile(data, IMAGE, "it") == profile


def test_a_profile_that_is_too_long_loses_its_end() -> None:
    many = Profile(IMAGE, tuple(Use(f"{number}" + "/a" * 300) for number in range(9000)))
    data = render_profile(many)
    found = parse_profile(data, IMAGE, "it").files
    assert 5000 < len(found) < 9000 and found == many.files[: len(found)]


def test_names_from_later_versions_are_ignored() -> None:
    document = {**GOOD, "later": 1, "files": [{"path": "a", "later": 2}]}
    assert parse(document).files == (Use("a"),)


def test_ranges_that_touch_are_one() -> None:
    files = [{"path": "a", "ranges": [[20, 5], [0, 10], [5, 10], [15, 1]]}]
    assert parse({**GOOD, "files": files}).files == (Use("a", ((0, 16), (20, 5))),)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\0b", "\ud800", "x" * 256, 7, None]
    + ["a/" * 2048],
)
def test_a_hostile_path_spoils_the_profile(path: object) -> None:
    with pytest.raises(InputError, match="wrong path"):
        parse({**GOOD, "files": [{"path": "good"}, {"path": path}]})


@pytest.mark.parametrize(
    "ranges",
    [7, [[0]], [[0, 0]], [[-1, 5]], [[0, True]], [[0, 1.5]], [["0", 1]], [[1 << 62, 1]]]
    + [[[0, 1]] * (MAX_RANGES + 1)],
)
def test_wrong_ranges_spoil_the_profile(ranges: object) -> None:
    with pytest.raises(InputError, match="wrong ranges"):
        parse({**GOOD, "files": [{"path": "a", "ranges": ranges}]})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"format": 2}, "no profile of format 1"),
        ({"image": "b" * 64}, "another image"),
        ({"image": "../etc"}, "names no image"),
        ({"image": 7}, "names no image"),
        ({"files": {}}, "no list"),
        ({"files": ["a"]}, "wrong path"),
        ({"files": [{"path": "a"}] * (MAX_FILES + 1)}, "at most 10000 files"),
    ],
)
def test_what_is_no_profile_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse({**GOOD, **changed})


def test_what_is_no_json_is_refused() -> None:
    for data in (b"", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(InputError):
            parse_profile(data, IMAGE, "it")


def test_recordings_are_merged_by_first_use() -> None:
    first = Profile(IMAGE, (Use("a"), Use("b", ((0, 5),)), Use("c", ((0, 5),))))
    second = Profile(IMAGE, (Use("c", ((3, 9),)), Use("d"), Use("b")))
    assert merge([first, second]).files == (
        Use("a"),
        Use("c", ((0, 12),)),
        Use("b"),
        Use("d"),
    )
    assert merge([first]) == first


def test_a_merged_profile_keeps_the_limits() -> None:
    many = [
        Profile(IMAGE, tuple(Use(f"{name}{number}") for number in range(MAX_FILES)))
        for name in "ab"
    ]
    found = merge(many)
    assert len(found.files) == MAX_FILES
    assert found.files[:3] == (Use("a0"), Use("b0"), Use("a1"))
    halves = [
        Profile(IMAGE, (Use("a", tuple((8 * n + start, 1) for n in range(MAX_RANGES))),))
        for start in (0, 4)
    ]
    assert merge(halves).files == (Use("a"),)
