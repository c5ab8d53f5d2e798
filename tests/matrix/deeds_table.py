# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.matrix.deeds_table``: what works on a CernVM-FS mount, in Markdown.

It is what ``deeds_stated`` states. The tests hold that against what podman does.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.matrix import deeds, deeds_stated
from tests.matrix.cells import Cell
from tests.matrix.deeds_stated import Failure
from tests.support.roots import GENERATIONS

#: Cells by whose store it is and whose files are shown, as users would say it.
_HEADS: Mapping[tuple[bool, bool, str], str] = {
    (False, False, "foreign"): "root",
    (False, False, "root"): "root, client shows the image's owners",
    (True, False, "foreign"): "user",
    (True, True, "foreign"): "user, fuse-overlayfs",
    (True, False, "user"): "user, own mount",
}


def _head(cell: Cell) -> str:
    return f"{_HEADS[(cell.rootless, cell.fuse, cell.owner)]}: {cell.view}"


def table() -> str:
    """The table, and below it how each failure shows itself and why."""
    notes: dict[tuple[str, tuple[str, ...]], int] = {}

    def verdict(failure: Failure | None) -> str:
        if failure is None:
            return "yes"
        number = notes.setdefault((failure.why, failure.words), len(notes) + 1)
        return f"no ({number})"

    def entry(deed: str, cell: Cell) -> str:
        """One verdict, or one for each podman where they differ."""
        found = {
            each.version: verdict(deeds_stated.stated(deed, cell, each.version))
            for each in GENERATIONS
        }
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        return ", ".join(f"{version}: {said}" for version, said in found.items())

    lines = ["| | " + " | ".join(map(_head, deeds.CELLS)) + " |"]
    lines.append("|---" * (len(deeds.CELLS) + 1) + "|")
    for deed in deeds.names():
        entries = [entry(deed, cell) for cell in deeds.CELLS]
        lines.append(f"| {deed} | " + " | ".join(entries) + " |")
    lines.append("")
    for (why, words), number in notes.items():
        said = " or ".join(f"`{each}`" for each in words)
        lines.append(f"{number}. {why[0].upper()}{why[1:]}: {said}.")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
