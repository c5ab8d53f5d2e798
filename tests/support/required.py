# SPDX-License-Identifier: Apache-2.0
"""What a test needs of the machine: all of it must be there in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def required(reason: str) -> NoReturn:
    """End the test for want of something: in CI as failed, elsewhere as skipped."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
