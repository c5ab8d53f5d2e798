# SPDX-License-Identifier: Apache-2.0
"""Conditions, and findings of them on a machine, as frozen dataclasses. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from podman_cvmfs.errors import (
    InputError,
    PartialError,
    PodmanCvmfsError,
    RegistryError,
    RepositoryError,
    StoreError,
)
from podman_cvmfs.util.words import counted


class Level(str, Enum):
    """An error makes podman fail, or not use the store, or show something wrong. A warning makes it
    slow, or fail in some cases, or fail before long. With a note nothing fails."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Area(str, Enum):
    """The part of the machine that a condition is in. The area of the worst finding decides the
    exit code."""

    ENGINE = "podman"
    CONFIGURATION = "configuration"
    STORE = "store"
    REPOSITORY = "repository"
    REGISTRY = "registry"


_ERRORS: dict[Area, type[PodmanCvmfsError]] = {
    Area.ENGINE: PodmanCvmfsError,
    Area.CONFIGURATION: InputError,
    Area.STORE: StoreError,
    Area.REPOSITORY: RepositoryError,
    Area.REGISTRY: RegistryError,
}


@dataclass(frozen=True)
class Condition:
    """A kind of trouble: its name, which never changes, its level, and its meaning (a clause)."""

    name: str
    level: Level
    area: Area
    means: str


@dataclass(frozen=True)
class Finding:
    """A condition on this machine."""

    condition: Condition
    #: What was found, fit to be printed.
    found: str
    #: The cure: a command for a shell; "" if nothing needs to be done.
    cure: str = ""
    #: Whether ``cure`` is not a command but words.
    by_hand: bool = False
    #: The meaning on this machine, if it differs from the condition's; else "".
    here: str = ""

    @property
    def means(self) -> str:
        """What it means (a clause)."""
        return self.here or self.condition.means


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, each once: errors, warnings, notes; within a level in the order found."""
    levels = list(Level)
    return sorted(dict.fromkeys(findings), key=lambda each: levels.index(each.condition.level))


def count(findings: Iterable[Finding], level: Level) -> int:
    """How many of the findings are of this level."""
    return sum(each.condition.level is level for each in findings)


def failure(findings: Iterable[Finding]) -> PodmanCvmfsError | None:
    """The error to end the command with. Its class is that of the worst condition's area. With
    warnings only it is PartialError, with neither errors nor warnings None."""
    ordered = worst_first(findings)
    errors, warnings = count(ordered, Level.ERROR), count(ordered, Level.WARNING)
    if errors:
        worst = ordered[0].condition
        text = f"{counted(errors, 'error')}, the worst is {worst.name}: {ordered[0].means}"
        return _ERRORS[worst.area](text)
    return PartialError(counted(warnings, "warning")) if warnings else None
