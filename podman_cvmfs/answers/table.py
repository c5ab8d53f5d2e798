# SPDX-License-Identifier: Apache-2.0
"""Tables for people: drawn at a terminal, plain aligned columns everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from podman_cvmfs.errors import printable

#: Longer tables are drawn plainly: rich takes seconds for those of thousands of rows.
_MOST_DRAWN = 500


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str]
) -> str:
    """The table as text to print. ``colours`` maps a cell's whole text to rich's style for it;
    they are shown at a terminal that can, unless NO_COLOR is set."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and len(clean) <= _MOST_DRAWN:
        return _drawn(headings, clean, colours)
    return plain_table([list(headings), *clean])


def plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, two spaces between them; empty without rows."""
    if not rows:
        return ""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _drawn(
    headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str]
) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, heading in enumerate(headings):
        # A name is what users copy: it is folded, never cut.
        table.add_column(heading, overflow="fold", no_wrap=number > 0)
    for row in rows:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
