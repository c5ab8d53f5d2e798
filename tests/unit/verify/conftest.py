# SPDX-License-Identifier: Apache-2.0
"""What tests of verify share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import small_repository


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The usual umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that no test changes."""
    return small_repository(tmp_path_factory.mktemp("plain") / "repository")
