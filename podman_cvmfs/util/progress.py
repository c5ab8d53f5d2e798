# SPDX-License-Identifier: Apache-2.0
"""Progress of long work, with counts and rates; shown at a terminal and nowhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Callable, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

T = TypeVar("T")

#: Short work gets no bar, and doesn't pay for the library that would draw it.
_WORTH_A_BAR = 20
_BYTES_WORTH_A_BAR = 8 * 1024 * 1024


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield ``items``, with a bar on stderr if that is a terminal and ``total`` is large."""
    if total < _WORTH_A_BAR or not _is_terminal():
        yield from items
        return
    with _counting_bar() as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)


@contextlib.contextmanager
def bytes_done(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Gives what is to be called with each number of bytes done, of ``total``; there is a bar on
    the same terms."""
    if total < _BYTES_WORTH_A_BAR or not _is_terminal():
        yield lambda count: None
        return
    with _byte_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _is_terminal() -> bool:
    # Where standard error is closed there is no file for it.
    return sys.stderr is not None and sys.stderr.isatty()


def _counting_bar() -> Progress:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Counts(ProgressColumn):
        def render(self, task: Task) -> Text:
            done, total = int(task.completed), int(task.total or 0)
            return Text(f"{done}/{total} {task.speed or 0:.0f}/s")

    return _bar(Counts())


def _byte_bar() -> Progress:
    from rich.progress import DownloadColumn, TransferSpeedColumn

    return _bar(DownloadColumn(), TransferSpeedColumn())


def _bar(*counts: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
