# SPDX-License-Identifier: Apache-2.0
"""Draws numbers as bars, as a picture in SVG 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

_WIDTH, _ROW, _LEFT, _RIGHT = 720, 22, 190, 70


def bars(numbers: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """A picture with a group of bars for each name, and a bar for each number in it."""
    most = max(number for group in numbers.values() for number in group.values())
    rows = []
    top = 0
    for name, group in numbers.items():
        top += _ROW + 10
        rows.append(f'<text x="4" y="{top}" font-weight="bold">{escape(name)}</text>')
        for label, number in group.items():
            top += _ROW
            length = (_WIDTH - _LEFT - _RIGHT) * number / most
            rows += [
                f'<text x="{_LEFT - 8}" y="{top}" text-anchor="end">{escape(label)}</text>',
                f'<rect x="{_LEFT}" y="{top - 13}" width="{length:.1f}" height="16"/>',
                f'<text x="{_LEFT + length + 6:.1f}" y="{top}">{number:.2f}</text>',
            ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 40}" '
        'font-family="sans-serif" font-size="13" fill="#333">'
    )
    foot = f'<text x="{_LEFT}" y="{top + 30}" font-style="italic">{escape(unit)}</text></svg>'
    style = "<style>rect{fill:#3a7ca5}</style>"
    return "\n".join([head, style, *rows, foot]) + "\n"
