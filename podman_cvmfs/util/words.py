# SPDX-License-Identifier: Apache-2.0
"""English words in messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 image", "2 images". ``plural`` is for nouns that take more than
    an "s"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
