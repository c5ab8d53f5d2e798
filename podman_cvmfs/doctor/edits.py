# SPDX-License-Identifier: Apache-2.0
"""Changes of storage.conf as commands for a shell. They handle every spelling of a key. Pure.

Each command prints the changed lines, and fails if it changes no line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_BLANK = "[[:blank:]]*"
#: TOML's quotes: a key may stand in them.
_QUOTE = r'["\x27]?'


def is_on_a_line(name: str, text: str) -> bool:
    """Whether ``set_key`` and ``comment_out`` find the key ``name`` in a file with this ``text``.
    They don't look into inline tables."""
    pattern = f"^{_key(name)}".replace(_BLANK, "[ \\t]*").replace(r"\x27", "'")
    return re.search(pattern, text, re.MULTILINE | re.IGNORECASE) is not None


def has_storage(text: str) -> bool | None:
    """Whether a file with this ``text`` has a line ``[storage]``; None if it says the same in
    another way, so that nobody can tell where such a line may stand."""
    lines = [line.strip() for line in text.splitlines()]
    if any(re.match(r"""\[\s*["']?storage["']?\s*\]""", line, re.IGNORECASE) for line in lines):
        return True
    first = next((line for line in lines if line and not line.startswith("#")), "[")
    return False if first.startswith("[") else None


def set_key(name: str, value: str, path: str) -> str:
    """Give the key ``name`` another value, a text."""
    return _edit(rf"^({_key(name)}{_BLANK}).*", rf'\1"{value}"', path)


def comment_out(name: str, path: str) -> str:
    """Turn the lines that set the key ``name`` into comments."""
    return _edit(f"^{_key(name)}", "# &", path)


def add_to_storage(values: Mapping[str, str], path: str, *, is_there: bool = True) -> str:
    """Set keys of the table ``[storage]`` that it doesn't set. ``is_there``: the file has this
    table; else it becomes the last one."""
    lines = r"\n".join(f'{key} = "{value}"' for key, value in values.items())
    if not is_there:
        table = rf"\n[storage]\n{lines}\n"
        return f"{shlex.join(['printf', table])} >> {shlex.quote(path)}"
    table = rf"^{_BLANK}\[{_BLANK}{_QUOTE}storage{_QUOTE}{_BLANK}\].*"
    return _edit(table, rf"&\n{lines}", path)


def remove_append(path: str) -> str:
    """Take ``{append=true}`` out of an array, with the comma on one side of it."""
    key = f"{_QUOTE}append{_QUOTE}"
    attribute = rf"\{{{_BLANK}{key}{_BLANK}={_BLANK}(true|false){_BLANK}\}}"
    return _edit(f",{_BLANK}{attribute}|{attribute}{_BLANK},?", "", path)


def _key(name: str) -> str:
    """What a line that sets ``name`` begins with; the names of tables may stand before it."""
    tables = rf"({_QUOTE}[a-z]+{_QUOTE}{_BLANK}\.{_BLANK})*"
    return f"{_BLANK}{tables}{_QUOTE}{name}{_QUOTE}{_BLANK}="


def _edit(pattern: str, replacement: str, path: str) -> str:
    # "|" is part of patterns. podman takes keys in any case.
    expression = f"s@{pattern}@{replacement}@Iw /dev/stdout"
    return shlex.join(["sed", "--in-place", "--regexp-extended", expression, path]) + " | grep ''"
