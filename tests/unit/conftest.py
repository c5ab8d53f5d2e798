# SPDX-License-Identifier: Apache-2.0
"""HTTP servers of one process, for the tests of the registry's client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.registry import endpoint, patience
from tests.support.http import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers as the test tells it."""
    with serving() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Server]:
    """Another host than ``server``."""
    with serving() as made:
        yield made


@pytest.fixture
def name(server: Server) -> ImageName:
    """An image on ``server``."""
    return parse_name(f"{server.address}/group/app:1")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses before another try are noted, in seconds, and not made."""
    made: list[float] = []
    monkeypatch.setattr(endpoint, "pause", made.append)
    monkeypatch.setattr(patience, "pause", made.append)
    return made
