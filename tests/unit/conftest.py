# SPDX-License-Identifier: Apache-2.0
"""HTTP servers of one process, for the tests of the registry's client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
