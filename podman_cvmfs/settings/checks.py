# SPDX-License-Identifier: Apache-2.0
"""Checks of single values of settings. Pure: no I/O.

Each check takes a value as TOML gives it, and returns it as ``Settings`` has it. It raises
ValueError with words that follow the name of the setting, such as "must be true or false".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.platform import UNKNOWN, Platform, nearest
from podman_cvmfs.util.web_address import checked_address, is_web_address

#: The architecture of the machine we run on.
HOST = "host"
#: No number of days.
NEVER = "never"

Choice = TypeVar("Choice", bound=Enum)


def text(value: object) -> str:
    """A text that isn't empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that isn't empty")
    if "\0" in value:
        raise ValueError("must hold no null character")
    return value


def path(value: object) -> str:
    """An absolute path; ``~`` stands for the home directory."""
    found = os.path.expanduser(text(value))
    if not os.path.isabs(found):
        raise ValueError(f"must be an absolute path, not {printable(found)!r}")
    return os.path.normpath(found)


def place(value: object) -> str:
    """An absolute path, or an address of the web."""
    found = text(value)
    return checked_address(found) if is_web_address(found) else path(found)


def architecture(value: object) -> str:
    """HOST, or an architecture in its usual spelling."""
    found = text(value)
    if found == HOST:
        return found
    try:
        platform = Platform.parse(found)
    except InputError:
        platform = UNKNOWN
    if not platform.is_known:
        # There is no image for it, so a sync would leave out all images.
        near = nearest(found)
        raise ValueError(
            f"must be {HOST}, or an architecture like amd64 or arm/v7, not {printable(found)!r}"
            + (f" (is it {near}?)" if near else "")
        )
    return str(platform)


def list_of(check: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """A list in which each value passes ``check``; a repeated value counts once."""

    def checked(value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError("must be a list of texts")
        try:
            return tuple(dict.fromkeys(check(each) for each in value))
        except ValueError as err:
            raise ValueError(f"is a list in which each {err}") from None

    return checked


def not_empty(check: Callable[[object], tuple[str, ...]]) -> Callable[[object], tuple[str, ...]]:
    """A list that passes ``check`` and isn't empty."""

    def checked(value: object) -> tuple[str, ...]:
        found = check(value)
        if not found:
            raise ValueError("must name at least one")
        return found

    return checked


def one_of(kind: type[Choice]) -> Callable[[object], Choice]:
    """A value of the enumeration ``kind``."""

    def checked(value: object) -> Choice:
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(each.value for each in kind)
            raise ValueError(f"must be one of {allowed}") from None

    return checked


def truth(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def days(least: int, most: int) -> Callable[[object], int | None]:
    """A whole number within these bounds, or NEVER, which becomes None."""
    number = whole_number(least, most)

    def checked(value: object) -> int | None:
        if isinstance(value, str):
            if value == NEVER:
                return None
            raise ValueError(f'must be a whole number from {least} to {most}, or "{NEVER}"')
        return number(value)

    return checked


def whole_number(least: int, most: int) -> Callable[[object], int]:
    """A whole number within these bounds."""

    def checked(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return checked


def seconds(least: float, most: float) -> Callable[[object], float]:
    """A number of seconds within these bounds."""

    def checked(value: object) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:  # type: ignore[operator]
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return float(value)  # type: ignore[arg-type]

    return checked
