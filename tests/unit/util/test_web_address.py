# SPDX-License-Identifier: Apache-2.0
"""Which addresses settings may name."""

from __future__ import annotations

import pytest

from podman_cvmfs.util.web_address import checked_address, is_web_address, shown_address


@pytest.mark.parametrize(
    "address",
    [
        "https://www.example.org/a/list.yaml?ref=main",
        "HTTPS://www.example.org:8443/",
        "http://localhost:8080/list",
        "http://127.0.0.2/list",
        "http://[::1]:80/list",
    ],
)
def test_good(address: str) -> None:
    assert is_web_address(address)
    assert checked_address(address) == address


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://www.example.org/list", "must be an https address"),
        ("http://127.0.0.1.example.org/", "must be an https address"),
        ("https:///list", "must be a valid address"),
        ("https://a.example.org:port/", "must be a valid address"),
        ("https://[::1/", "must be a valid address"),
        ("https://a.example.org/a b", "must be a valid address"),
        ("https://a.example.org/\u00fc", "must be a valid address"),
        ("https://me:secret@a.example.org/", "without user and password"),
    ],
)
def test_bad(address: str, problem: str) -> None:
    assert is_web_address(address)
    with pytest.raises(ValueError, match=problem) as caught:
        checked_address(address)
    assert "secret" not in str(caught.value)


def test_others_are_paths() -> None:
    assert not any(map(is_web_address, ("/https://a", "ftp://a", "https:/a", "list.yaml")))


def test_queries_are_not_shown() -> None:
    assert (
        shown_address("https://a.example.org/l.yaml?x=secret#y") == "https://a.example.org/l.yaml"
    )
