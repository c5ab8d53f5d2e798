# SPDX-License-Identifier: Apache-2.0
"""Names without a registry."""

from __future__ import annotations

import pytest

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.short import possible_names

HEX = "0123456789abcdef" * 4
ALIASES = {"debian": "docker.io/library/debian", "ubi8": "registry.example.org/ubi8"}


@pytest.mark.parametrize(
    ("text", "search", "meant"),
    [
        ("debian", ["quay.io"], ["docker.io/library/debian:latest"]),
        ("debian:12", [], ["docker.io/library/debian:12"]),
        (f"ubi8:1@sha256:{HEX}", [], [f"registry.example.org/ubi8:1@sha256:{HEX}"]),
        ("library/debian", ["quay.io"], ["quay.io/library/debian:latest"]),
        ("x:1", ["quay.io", "docker.io"], ["quay.io/x:1", "docker.io/library/x:1"]),
        ("a/x", ["localhost:5000"], ["localhost:5000/a/x:latest"]),
        (f"x@sha256:{HEX}", ["quay.io"], [f"quay.io/x@sha256:{HEX}"]),
        ("x", [], ["docker.io/library/x:latest"]),
        ("x", ["docker.io", "index.docker.io"], ["docker.io/library/x:latest"]),
        ("localhost/x", ["quay.io"], ["localhost/x:latest"]),
        ("quay.io/debian", ["ghcr.io"], ["quay.io/debian:latest"]),
        ("localhost:5000/debian:1", [], ["localhost:5000/debian:1"]),
    ],
)
def test_candidates(text: str, search: list[str], meant: list[str]) -> None:
    assert [str(name) for name in possible_names(text, ALIASES, search)] == meant


@pytest.mark.parametrize("text", ["", ":1", "a:b:c", "UPPER", "@", "a b"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InputError):
        possible_names(text, ALIASES, ["quay.io"])


def test_an_erased_alias_is_none() -> None:
    assert [str(name) for name in possible_names("x", {"x": ""}, ["quay.io"])] == [
        "quay.io/x:latest"
    ]
