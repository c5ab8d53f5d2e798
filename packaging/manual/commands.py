# SPDX-License-Identifier: Apache-2.0
"""What the commands say of themselves, as reStructuredText."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from podman_cvmfs.cli.main import COMMANDS, cli
from podman_cvmfs.doctor.conditions import CONDITIONS

#: Addresses would become links, and be shown in angle brackets.
_MARKUP = re.compile(r"([\\*`|_]|:(?=//))")


@dataclass(frozen=True)
class Command:
    """A command, or a group of them, with what click knows of it.

    ``words`` are what is typed: ``podman-cvmfs cache export``; ``summary`` is one line.
    """

    words: tuple[str, ...]
    summary: str
    context: click.Context

    @property
    def page(self) -> str:
        """The name of its manual page."""
        return "-".join(self.words)

    @property
    def synopsis(self) -> str:
        """How it is called."""
        command = self.context.command
        pieces = [escape(piece) for piece in command.collect_usage_pieces(self.context)]
        return " ".join([f"**{' '.join(self.words)}**", *(f"*{piece}*" for piece in pieces)])

    @property
    def description(self) -> str:
        """The text of its ``--help``."""
        # What follows a form feed is for those who read the source.
        text = inspect.cleandoc(self.context.command.help or "").partition("\f")[0]
        return escape(text)

    @property
    def options(self) -> str:
        """A definition list of all its options."""
        params = self.context.command.get_params(self.context)
        records = [
            # Arguments are told of in the description.
            param.get_help_record(self.context)
            for param in params
            if isinstance(param, click.Option)
        ]
        return "\n\n".join(
            f"{_term(record[0])}\n    {escape(record[1])}" for record in records if record
        )

    @property
    def subcommands(self) -> str:
        """A definition list of a group's commands; nothing for others."""
        return "\n\n".join(
            f"**{each.page}**\\(1)\n    {escape(each.summary)}" for each in _children(self)
        )

    @property
    def conditions(self) -> str:
        """A definition list of what ``doctor`` may find; nothing for others."""
        if self.page != "podman-cvmfs-doctor":
            return ""
        return "\n\n".join(
            f"{escape(each.name)} ({each.level.value})\n    {escape(each.means)}"
            for each in CONDITIONS.values()
        )


def commands() -> Iterator[Command]:
    """All commands, ``podman-cvmfs`` itself first."""
    root = Command(
        ("podman-cvmfs",),
        "run container images unpacked in CernVM-FS with podman",
        _context(cli, "podman-cvmfs"),
    )
    yield from _below(root)


def _below(command: Command) -> Iterator[Command]:
    yield command
    for each in _children(command):
        yield from _below(each)


def _children(parent: Command) -> Iterator[Command]:
    group, context = parent.context.command, parent.context
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        summary = COMMANDS[name] if group is cli else command.get_short_help_str(limit=200)
        yield Command(
            (*parent.words, name),
            summary[:1].lower() + summary[1:].rstrip("."),
            _context(command, name, context),
        )


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    return click.Context(command, parent, name, **command.context_settings)


def _term(text: str) -> str:
    """``-v, --verbose`` or ``--store DIR``: what is typed in bold, what is put in its place not."""
    return " ".join(_word(word) for word in text.split())


def _word(word: str) -> str:
    name, comma = word.rstrip(","), "," if word.endswith(",") else ""
    if name == "/":
        return name
    return f"**{name}**{comma}" if name.startswith("-") else f"*{escape(name)}*{comma}"


def escape(text: str) -> str:
    """``text`` with nothing in it that is markup."""
    return _MARKUP.sub(r"\\\1", text)
