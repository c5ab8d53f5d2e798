# SPDX-License-Identifier: Apache-2.0
"""A store for doctor to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import Spoilt, small_repository


@pytest.fixture
def spoilt(tmp_path: Path) -> Spoilt:
    return Spoilt(small_repository(tmp_path / "repository"), tmp_path)
