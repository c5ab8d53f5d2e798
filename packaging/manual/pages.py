# SPDX-License-Identifier: Apache-2.0
"""Puts pages together and has docutils make roff of them.

A command's page is made of what the command says of itself and of the file ``NAME.1.rst`` beside
this one: what that has before its first heading continues the description, its sections stand
between the options and the exit status. The other pages are files ``NAME.SECTION.rst``, whole but
for the heading. SEE ALSO is made of the pages that a text names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docutils.core import publish_string
from docutils.writers.manpage import Writer

from manual.commands import Command, commands
from podman_cvmfs import __version__

TEXTS = Path(__file__).parent
#: The pages that belong to no command, and their summaries.
OTHERS = {
    ("podman-cvmfs.toml", 5): "settings of podman-cvmfs",
    ("podman-cvmfs-concepts", 7): "how podman runs images from CernVM-FS, and where that differs",
    ("podman-cvmfs-crio", 7): "images from CernVM-FS in CRI-O, Kubernetes and OpenShift",
    ("podman-cvmfs-security", 7): "who is trusted for what, and what a sync checks",
}
_GENERAL = ("podman-cvmfs(1)", "podman-cvmfs.toml(5)", "podman-cvmfs-concepts(7)")
_HEADING = re.compile(r"^[A-Z ]+\n=+$", re.MULTILINE)
_REFERENCE = re.compile(r"\*\*([a-z][\w.-]*)\*\*\\\((\d)\)")


@dataclass(frozen=True)
class Page:
    """A manual page as reStructuredText."""

    name: str
    section: int
    summary: str
    body: str

    @property
    def references(self) -> list[str]:
        """The other pages that it names, as ``name(section)``."""
        found = {f"{name}({section})" for name, section in _REFERENCE.findall(self.body)}
        found.update(_GENERAL)
        return sorted(found - {f"{self.name}({self.section})"}, key=_by_section)

    def roff(self) -> str:
        """The page for ``man``."""
        references = ", ".join(
            f"**{name}**\\({section})" for name, section in map(_split, self.references)
        )
        text = "\n".join(
            [
                *_title(self.name, "="),
                *_title(self.summary, "-"),
                f":Manual section: {self.section}",
                ":Manual group: podman-cvmfs manual",
                f":Version: podman-cvmfs {__version__}",
                "",
                self.body,
                "",
                "SEE ALSO",
                "========",
                references,
            ]
        )
        settings = {
            "output_encoding": "unicode",
            "file_insertion_enabled": False,
            "raw_enabled": False,
            # A warning ends it.
            "halt_level": 2,
            "report_level": 2,
        }
        made = publish_string(text, writer=Writer(), settings_overrides=settings)
        # Newer writers spell it unlike our own headings.
        return str(made).replace("\n.SH Name\n", "\n.SH NAME\n")


def pages() -> Iterator[Page]:
    """All pages."""
    for command in commands():
        yield Page(command.page, 1, command.summary, _body(command))
    for (name, section), summary in OTHERS.items():
        yield Page(name, section, summary, text_of(name, section))


def text_of(name: str, section: int) -> str:
    """What the file of a page has; nothing where there is none. Raises OSError."""
    path = TEXTS / f"{name}.{section}.rst"
    if not path.exists():
        return ""
    return "".join(
        line for line in path.read_text("utf-8").splitlines(True) if not line.startswith(".. SPDX")
    ).strip()


def write_pages(directory: str) -> None:
    """Write all pages below ``directory``, in man1, man5 and man7. Raises OSError."""
    for page in pages():
        place = f"{directory}/man{page.section}"
        os.makedirs(place, exist_ok=True)
        with open(f"{place}/{page.name}.{page.section}", "w", encoding="utf-8") as file:
            file.write(page.roff())


def _body(command: Command) -> str:
    text = text_of(command.page, 1)
    heading = _HEADING.search(text)
    cut = heading.start() if heading else len(text)
    parts = {
        "SYNOPSIS": command.synopsis,
        "DESCRIPTION": f"{command.description}\n\n{text[:cut]}",
        "COMMANDS": command.subcommands,
        "OPTIONS": command.options,
        "CONDITIONS": command.conditions,
    }
    sections = [f"{name}\n{'=' * len(name)}\n{part}" for name, part in parts.items() if part]
    return "\n\n".join([*sections, text[cut:]])


def _title(text: str, line: str) -> list[str]:
    return [line * len(text), text, line * len(text)]


def _split(reference: str) -> tuple[str, str]:
    name, _, section = reference[:-1].rpartition("(")
    return name, section


def _by_section(reference: str) -> tuple[str, str]:
    name, section = _split(reference)
    return section, name
