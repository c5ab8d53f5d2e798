# SPDX-License-Identifier: Apache-2.0
"""What versions of podman can do."""

from __future__ import annotations

import pytest

from podman_cvmfs.podman.features import is_at_least, reads_docker_zstd


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("4.3.1", False),
        ("5.4.2", False),
        ("5.6.2-rhel", False),
        ("5.7.0", True),
        ("5.8.6", True),
        ("5.10.0", True),
        ("6.0.0-rc1", True),
        ("6.0-dev", True),
        ("10.1", True),
        ("6", False),
        ("", False),
        ("x.9.1", False),
    ],
)
def test_versions_in_order(version: str, expected: bool) -> None:
    assert is_at_least(version, (5, 7)) is expected


def test_without_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not reads_docker_zstd.__wrapped__()
