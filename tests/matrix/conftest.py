# SPDX-License-Identifier: Apache-2.0
"""The images and repositories of the matrix, for pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.matrix.site import Site, site
from tests.support.podman import Host


@pytest.fixture(scope="session")
def matrix_site(podman_host: Host) -> Iterator[Site]:
    """One Site for all tests of the session."""
    with site() as made:
        yield made
