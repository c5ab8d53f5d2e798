# SPDX-License-Identifier: Apache-2.0
"""Names of architectures, and the architectures that a machine runs."""

from __future__ import annotations

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.oci.platform import UNKNOWN, Platform

AMD64, ARM64, ARM_V7 = Platform("amd64"), Platform("arm64", "v8"), Platform("arm", "v7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amd64", AMD64),
        ("x86_64", AMD64),
        ("aarch64", ARM64),
        ("arm64:v8", ARM64),
        ("linux/arm/v7", ARM_V7),
        ("arm64", Platform("arm64")),
        ("s390x", Platform("s390x")),
    ],
)
def test_names(text: str, expected: Platform) -> None:
    assert Platform.parse(text) == expected
    assert Platform.parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "AMD64", "a b", "windows/amd64/x", "../x", "a" * 40, "x\n"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Platform.parse(text)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("host", "best_first", "never"),
    [
        ("amd64", ["amd64", "amd64/v2", "amd64/v3", "386"], ["arm64", "s390x", "amd64p32"]),
        ("amd64/v2", ["amd64/v2", "amd64", "386"], ["amd64/v3"]),
        ("aarch64", ["arm64/v8", "arm64"], ["arm64/v9", "arm/v7", "amd64"]),
        ("arm64", ["arm64", "arm64/v8"], ["arm64/v9"]),
        ("arm/v7", ["arm/v7", "arm", "arm/v6", "arm/v5"], ["arm/v8", "arm64"]),
        ("arm/v6", ["arm/v6", "arm/v5"], ["arm/v7", "arm"]),
    ],
)
def test_what_runs_where(host: str, best_first: list[str], never: list[str]) -> None:
    platform = Platform.parse(host)
    ranks = [platform.rank(Platform.parse(text)) for text in best_first]
    assert ranks == sorted(ranks, key=lambda rank: rank or 0) and None not in ranks
    assert not any(platform.runs(Platform.parse(text)) for text in never)
    assert platform.runs(UNKNOWN), "an image that doesn't say may"
