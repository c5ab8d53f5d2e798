# SPDX-License-Identifier: Apache-2.0
"""TOML files that others own: read with clear errors, rendered with comments and order kept."""

from __future__ import annotations

import codecs
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import ParseError, TOMLKitError

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.toml import MAX_TOML, reason_of

#: The byte order mark that some editors put before UTF-8. podman 5 and later skip it.
BOM = codecs.BOM_UTF8


def read_file(path: str) -> bytes | None:
    """The content of ``path``, None where nothing is. Raises InputError, also for anything but a
    regular file: users can put a FIFO or a device where root reads their configuration."""
    try:
        return read_bounded(path, MAX_TOML)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise InputError(f"can't read {printable(path)}: {err.strerror}") from err


def parse(path: str, data: bytes) -> TOMLDocument:
    """Parse ``data``, the content of ``path``, without its byte order mark. Raises InputError
    naming file and line."""
    try:
        text = data.decode("utf-8-sig")
        return tomlkit.parse(text)
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise _bad(path, line, "not UTF-8") from err
    except ParseError as err:
        raise _bad(path, err.line, reason_of(err, text)) from err
    except (TOMLKitError, ValueError) as err:
        raise _bad(path, None, str(err)) from err


def plain(path: str, data: bytes) -> dict[str, Any]:
    """The same as ordinary dictionaries and lists, to look at."""
    content: dict[str, Any] = parse(path, data).unwrap()
    return content


def section(path: str, content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The table ``names[0].names[1]...`` of a plain document; empty where it isn't there.

    Its keys, and ``names``, are in small letters: podman takes them in any case.
    """
    found = _in_small_letters(content)
    for number, name in enumerate(names):
        table = found.get(name, {})
        if not isinstance(table, dict):
            raise _bad(path, None, f"{'.'.join(names[: number + 1])} is not a table")
        found = _in_small_letters(table)
    return found


def _in_small_letters(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in table.items()}


def refuse_capitals(path: str, content: Mapping[str, Any], *names: str) -> None:
    """Raise InputError if ``names``, tables and at last a key, are spelt with capitals: an edit
    would put them beside, and podman take either."""
    for name in names:
        for key in content:
            if key != name and key.lower() == name:
                spelt = printable(key)
                raise InputError(
                    f"can't edit {printable(path)}: it spells {name} as {spelt}",
                    f"change {spelt} to {name} there; nothing has been changed",
                )
        below = content.get(name)
        if not isinstance(below, dict):
            return
        content = below


def refuse_bom(path: str, data: bytes) -> None:
    """Raise InputError for a byte order mark, for a podman that doesn't skip it."""
    if data.startswith(BOM):
        raise InputError(
            f"{printable(path)}:1: begins with a byte order mark, which podman 4 can't read",
            rf"sed --in-place '1s/^\xEF\xBB\xBF//' {shlex.quote(printable(path))} removes it",
        )


def strings(path: str, key: str, value: object) -> tuple[list[str], bool | None]:
    """An array of strings that may hold ``{append=true}``: the strings, and that attribute.

    As containers/storage 1.63 reads it (``pkg/configfile/slice.go``). Raises InputError.
    """
    append: bool | None = None
    found: list[str] = []
    for item in value if isinstance(value, list) else [None]:
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict) and set(item) == {"append"}:
            append = bool(item["append"])
        else:
            raise _bad(path, None, f"{key} is not an array of strings")
    return found, append


def array_in(
    path: str, content: Mapping[str, Any], key: Sequence[str]
) -> tuple[list[str], bool | None] | None:
    """The array ``key`` (tables, and at last its own name) of the file ``path``, which holds
    ``content``, as ``strings`` reads it; None where the file doesn't set it. Raises InputError."""
    table = section(path, content, *key[:-1])
    return strings(path, ".".join(key), table[key[-1]]) if key[-1] in table else None


def _bad(path: str, line: int | None, what: str) -> InputError:
    where = printable(path) + (f":{line}" if line else "")
    hint = f"correct {printable(os.path.basename(path))}; nothing has been changed"
    return InputError(f"{where}: {printable(what)}", hint)
