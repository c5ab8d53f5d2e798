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
        # DUCC's directory where the variant is an empty text.
        ("amd64:", AMD64),
        ("arm:", Platform("arm")),
        ("AMD64", AMD64),
        ("x86-64", AMD64),
        ("arm32v7", ARM_V7),
        ("arm64v8", ARM64),
        ("armhf", ARM_V7),
        ("arm/7", ARM_V7),
        ("arm64:8", ARM64),
    ],
)
def test_names(text: str, expected: Platform) -> None:
    assert Platform.parse(text) == expected
    assert Platform.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", ":", ":v8", "a b", "windows/amd64/x", "a:b:c", "../x", "a" * 40, "x\n"]
)
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


@pytest.mark.parametrize(
    ("host", "same", "others"),
    [
        ("amd64", ["amd64", "x86_64", "X86_64", "amd64:", "amd64/v1"], ["amd64/v2", "386"]),
        ("aarch64", ["arm64", "arm64:", "arm64:v8", "arm64/8", "aarch64", "arm64v8"], []),
        ("arm64", ["arm64", "arm64:v8"], []),
        ("arm/v7", ["arm", "arm:", "armhf", "arm/7", "arm32v7", "armv7l"], ["armel", "arm32v6"]),
    ],
)
def test_names_that_mean_the_same(host: str, same: list[str], others: list[str]) -> None:
    platform = Platform.parse(host)
    assert {platform.rank(Platform.parse(text)) for text in same} == {0}
    assert all(platform.rank(Platform.parse(text)) for text in others)


@pytest.mark.parametrize("system", ["", "linux", "Linux", "LINUX"])
def test_linux_by_any_name(system: str) -> None:
    assert Platform.stated("x86_64", "", system) == AMD64
    assert AMD64.runs(Platform.stated("", "", system))


@pytest.mark.parametrize("system", ["windows", "Windows", "freebsd", "wasi", "unknown"])
@pytest.mark.parametrize("architecture", ["amd64", "", "no-such-word"])
def test_another_system(system: str, architecture: str) -> None:
    platform = Platform.stated(architecture, "", system)
    assert not AMD64.runs(platform)
    assert str(platform).startswith(system.lower())


def test_words_that_nobody_knows_may_mean_this_machine() -> None:
    """podman starts such images with a warning."""
    for word in ("noarch", "My-Machine", "amd46"):
        assert AMD64.runs(Platform.stated(word)), word
        assert AMD64.runs_named(str(Platform.stated(word))), word
    for word in ("wasm", "sparc64", "riscv", "arm64", "S390X", "x.y", "my arch", "é"):
        assert not AMD64.runs(Platform.stated(word)), word
