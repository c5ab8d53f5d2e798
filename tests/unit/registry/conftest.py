# SPDX-License-Identifier: Apache-2.0
"""HTTP servers of one process, for the tests of the registry's client."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.registry import endpoint, patience
from podman_cvmfs.registry.client import RegistryClient
from tests.support.http import Server, serving
from tests.support.logins import BASIC, SECRET, TOKEN
from tests.support.small_client import new_client


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


@pytest.fixture
def nothing_secret_is_said(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither a password nor a token is in the log, at the highest level of detail."""
    caplog.set_level(logging.DEBUG)
    yield
    for secret in (SECRET, TOKEN, BASIC):
        assert secret not in caplog.text


@pytest.fixture
def dead() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    """A client that knows nothing of this host."""
    with new_client() as made:
        yield made
