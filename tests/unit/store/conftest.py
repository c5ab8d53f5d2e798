# SPDX-License-Identifier: Apache-2.0
"""The umask of all tests of stores."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The usual umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)
