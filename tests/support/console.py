# SPDX-License-Identifier: Apache-2.0
"""The commands and outputs that documents show, in blocks of two kinds.

In Markdown a block is fenced as ``console``; in reStructuredText it is the indented text after
``::`` of a page's section EXAMPLES. A line that begins with ``# `` is typed by root, one with
``$ `` by an ordinary user, and the lines below it are what is printed then. In a block without
such lines each line is a command of root's, and nothing is said of its output.

The comment ``not run: REASON`` right before a block says that no test runs it, and why: in Markdown
``<!-- not run: REASON -->``, in reStructuredText ``.. not run: REASON``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_LITERAL = re.compile(
    r"^(?:\.\. not run: (?P<reason>.*)\n\n)?^(?P<lead>.*)::\n\n(?P<text>(?:    .*\n|\n)+)", re.M
)
_EXAMPLES = re.compile(r"^EXAMPLES\n=+\n(.*?)(?=^[A-Z ]+\n=+$|\Z)", re.M | re.S)
_PROMPTS = {"# ": False, "$ ": True}


@dataclass(frozen=True)
class Command:
    """A command line, whether an ordinary ``user`` types it, and what it prints: None where the
    document doesn't say."""

    line: str
    user: bool = False
    output: str | None = None


@dataclass(frozen=True)
class Block:
    """Commands shown together; ``not_run`` is the reason why no test runs them, or empty."""

    commands: tuple[Command, ...]
    not_run: str = ""


def blocks_of_markdown(text: str) -> list[Block]:
    """The blocks of a Markdown document."""
    return [
        _block(match["text"], match["reason"])
        for match in _FENCE.finditer(text)
        if match["kind"] == "console"
    ]


def blocks_of_page(text: str) -> list[Block]:
    """The blocks in the examples of a manual page's source."""
    examples = _EXAMPLES.search(text)
    if examples is None:
        return []
    found = _LITERAL.finditer(examples[1] + "\n")
    return [_block(re.sub("^    ", "", each["text"], flags=re.M), each["reason"]) for each in found]


def _block(text: str, reason: str | None) -> Block:
    return Block(tuple(_commands(text.strip("\n"))), reason or "")


def _commands(text: str) -> Iterator[Command]:
    lines = text.split("\n")
    if not any(line[:2] in _PROMPTS for line in lines):
        joined = text.replace("\\\n", "")
        yield from (Command(line) for line in joined.split("\n") if line.strip())
        return
    pieces = re.split(r"^(?=[#$] )", text, flags=re.M)
    for piece in filter(str.strip, pieces):
        line, _, output = piece[2:].replace("\\\n", "").partition("\n")
        yield Command(line, _PROMPTS[piece[:2]], output.strip("\n"))
