# SPDX-License-Identifier: Apache-2.0
"""Tables for people: drawn at a terminal, plain aligned columns everywhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence

from podman_cvmfs.errors import printable

#: Longer tables are drawn plainly: rich takes seconds for thousands of rows.
_MOST_DRAWN = 500


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str]
) -> str:
    """The table as text to print. ``colours`` maps a cell's whole text to rich's style for it;
    they are shown at a terminal that can, unless NO_COLOR is set."""
    clean = [[printable(cell) for cell in row] for row in rows]
    plain = plain_table([list(headings), *clean])
    # If standard output is closed, there is no file for it.
    if sys.stdout is None or not sys.stdout.isatty() or len(clean) > _MOST_DRAWN:
        return plain
    # Names must be easy to copy. So the terminal folds long rows, not the table.
    fits = max(map(len, plain.splitlines())) <= shutil.get_terminal_size().columns
    return _drawn(headings, clean, colours) if fits else plain


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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
