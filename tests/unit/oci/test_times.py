# SPDX-License-Identifier: Apache-2.0
"""Times as Go reads and writes them."""

from __future__ import annotations

import pytest

from podman_cvmfs.oci.times import is_time, normal_time

_YEAR_1 = "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("2020-09-13T12:26:40Z", "2020-09-13T12:26:40Z"),
        ("2020-09-13T14:26:40.120+02:00", "2020-09-13T12:26:40.12Z"),
        ("2020-09-13T12:26:40.123456789123Z", "2020-09-13T12:26:40.123456789Z"),
        ("2020-09-13T12:26:40,5+00:00", "2020-09-13T12:26:40.5Z"),
        ("0001-01-01T00:00:00Z", _YEAR_1),
        ("0001-01-01T00:00:00+10:00", _YEAR_1),
        ("9999-12-31T23:59:59-01:00", _YEAR_1),
    ],
)
def test_times_are_written_as_go_writes_them(given: str, normal: str) -> None:
    assert is_time(given)
    assert normal_time(given) == normal


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2020-13-45T99:99:99Z", "2020-09-13T12:26:40Z\n", "2020-09-13T12:26:40"]
    + ["2020-09-13t12:26:40Z", "2020-09-13T12:26:40z", "2020-09-13 12:26:40Z"]
    + [
        f"2020-09-13T12:26:40.{'1' * 1000}Z",
        "2020-09-13T24:00:00Z",
        "2020-09-13T12:26:60Z",
        "2021-02-29T00:00:00Z",
    ]
    + ["2020-09-13T12:26:40+24:00", "2020-09-13T12:26:40+01:60"]
    # Digits, but of other scripts.
    + ["2020-09-13T12:26:40.\u0663Z", "\u0662020-09-13T12:26:40Z"],
)
def test_what_go_takes_for_no_time(text: str) -> None:
    assert not is_time(text)
    assert normal_time(text) == _YEAR_1
