# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a store, as a frozen dataclass. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """An error makes podman fail or show something wrong, now or later; a warning doesn't."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: with what (``path``, absolute), how, and what to do about it.

    The texts are fit to be printed.
    """

    severity: Severity
    path: str
    what: str
    cure: str


#: For what is no work of ours, and may be somebody's.
REMOVE = "remove it, or move it away"
