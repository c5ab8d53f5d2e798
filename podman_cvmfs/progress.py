# SPDX-License-Identifier: Apache-2.0
"""Progress of long work, shown at a terminal and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Short work gets no bar, and doesn't pay for the library that would draw it.
_WORTH_A_BAR = 20


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield ``items``, with a bar on stderr if that is a terminal and ``total`` is large."""
    if total < _WORTH_A_BAR or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    yield from rich_track(items, description=what, total=total, console=console, transient=True)
