# SPDX-License-Identifier: Apache-2.0
"""Reads TOML files (TOML v1.0), with the lines of their keys for messages."""

from __future__ import annotations

import codecs
import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.util.foreign_file import read_bounded

if TYPE_CHECKING:
    from tomlkit.exceptions import ParseError

#: No real settings file is nearly as long, in bytes.
MAX_TOML = 1024 * 1024


@dataclass(frozen=True)
class TomlFile:
    """A file's path, its text, and what it says as plain dicts, lists, texts and numbers.

    ``has_bom``: a byte order mark was before the text.
    """

    path: str
    text: str
    data: dict[str, Any]
    has_bom: bool = False

    def where(self, key: str) -> str:
        """``path:line`` of ``key`` (``table.key`` inside a table), or ``path`` alone where it
        isn't certain: the line is looked up in the text, since the parser doesn't tell.
        """
        line = _line_of(self.text, key)
        return printable(self.path) + (f":{line}" if line else "")

    def wrong(self, key: str, problem: str) -> InputError:
        """The error that ``key`` has this ``problem``."""
        return InputError(f"{self.where(key)}: {key} {problem}")


def read_toml(path: str) -> TomlFile | None:
    """Read the file at ``path``; None if there is none.

    Raises InputError if it can't be read or isn't TOML.
    """
    try:
        data = read_bounded(path, MAX_TOML)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        if err.errno == errno.EFBIG:
            raise InputError(f"{printable(path)}: longer than {MAX_TOML} bytes") from None
        raise InputError(f"can't read {printable(path)}: {err.strerror}") from None
    return parse_toml(data, path)


def parse_toml(data: bytes, path: str) -> TomlFile:
    """Parse what stands in the file at ``path``. Raises InputError."""
    # Not at the top: most runs find no file, and needn't wait for the parser.
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        text = data.decode("utf-8-sig")
        has_bom = data.startswith(codecs.BOM_UTF8)
        return TomlFile(path, text, tomlkit.parse(text).unwrap(), has_bom)
    except ParseError as err:
        reason = printable(reason_of(err, text))
        raise InputError(f"{printable(path)}:{err.line}: {reason}") from None
    except RecursionError:
        raise InputError(f"{printable(path)}: nested too deeply") from None
    except (TOMLKitError, ValueError) as err:
        raise InputError(f"{printable(path)}: not valid TOML: {printable(str(err))}") from None


def reason_of(err: ParseError, text: str) -> str:
    """What tomlkit has found wrong with ``text``, without the line, which ``err`` has."""
    from tomlkit.exceptions import UnexpectedEofError

    # It says "... at line 3 col 4", and takes the end of the text for a null character.
    reason = str(err).rpartition(" at line ")[0]
    if isinstance(err, UnexpectedEofError) or (repr("\0") in reason and "\0" not in text):
        return "the file ends too early: is a bracket or a quotation mark left open?"
    return reason


def drop_ins(directory: str, suffix: str) -> list[str]:
    """The paths of the files called ``*suffix`` in ``directory``, sorted by name.

    No directory is an empty one. Raises InputError if it can't be read.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise InputError(f"can't read {printable(directory)}: {err.strerror}") from None
    paths = [os.path.join(directory, name) for name in names]
    return [path for path in paths if not os.path.isdir(path)]


def _line_of(text: str, key: str) -> int | None:
    """The number of the line that sets ``key``; None if none does, or several do."""
    table, _, last = key.rpartition(".")
    word = r"""["']?{}["']?"""
    whole = r"\s*\.\s*".join(word.format(re.escape(part)) for part in key.split("."))
    patterns = {table: rf"\s*{word.format(re.escape(last))}\s*=", "": rf"\s*{whole}\s*="}
    found = []
    header = ""
    for number, line in enumerate(text.split("\n"), 1):
        opened = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        if opened:
            header = opened.group(1).strip("\"' ")
            if header == key:
                found.append(number)
        elif header in patterns and re.match(patterns[header], line):
            found.append(number)
    return found[0] if len(found) == 1 else None
