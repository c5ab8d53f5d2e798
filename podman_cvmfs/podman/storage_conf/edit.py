# SPDX-License-Identifier: Apache-2.0
"""Edits one storage.conf or containers.conf: text in, text out, everything else kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.podman.storage_conf.toml_file import BOM, parse, refuse_capitals, section, strings

#: Table and key of the two arrays we add to.
STORES = ("storage", "options", "additionalimagestores")
VOLUMES = ("containers", "volumes")
HOOKS = ("engine", "hooks_dir")
#: Of the two places the one that wins.
_MOUNT_OPTIONS = ("storage", "options", "overlay", "mountopt")
#: Where the program that mounts the layers may be named; the last one wins.
_MOUNT_PROGRAM = (
    ("storage", "options", "mount_program"),
    ("storage", "options", "overlay", "mount_program"),
)


def add(
    path: str, data: bytes, key: tuple[str, ...], values: Sequence[str], *, first: bool = False
) -> bytes:
    """Return ``data``, the content of ``path``, with ``values`` at the end of the array ``key``, or
    before all others.

    What the array has already is not added again. Raises InputError.
    """

    def change(document: Any) -> None:
        table = document
        for name in key[:-1]:
            if name not in table:
                table[name] = tomlkit.table()
            table = table[name]
        if key[-1] not in table:
            table[key[-1]] = list(dict.fromkeys(values))
            return
        array = table[key[-1]]
        present, _append = strings(path, ".".join(key), _as_plain(array))
        new = [value for value in dict.fromkeys(values) if value not in present]
        for value in reversed(new) if first else new:
            array.insert(0 if first else len(array), value)

    return _edit(path, data, change, key)


def remove(path: str, data: bytes, key: tuple[str, ...], values: Sequence[str]) -> bytes:
    """Return ``data`` without ``values`` in the array ``key``. Raises InputError."""

    def change(document: Any) -> None:
        table = document
        for name in key[:-1]:
            if name not in table:
                return
            table = table[name]
        if key[-1] not in table:
            return
        array = table[key[-1]]
        present, _append = strings(path, ".".join(key), _as_plain(array))
        for value in set(present) & set(values):
            while value in array:
                array.remove(value)

    return _edit(path, data, change, key)


def set_mount_program(path: str, data: bytes, program: str | None) -> bytes:
    """Return ``data`` with ``program`` mounting the layers; None: the kernel does.

    "" is for a drop-in: the kernel does, whatever the files read before say.
    """

    def change(document: Any) -> None:
        if program is None:
            for *names, key in _MOUNT_PROGRAM:
                table = document
                for name in names:
                    table = table.get(name, {})
                if key in table:
                    del table[key]
            return
        for *names, key in _MOUNT_PROGRAM if program == "" else _MOUNT_PROGRAM[-1:]:
            table = document
            for name in names:
                if name not in table:
                    table[name] = tomlkit.table()
                table = table[name]
            table[key] = program

    return _edit(path, data, change, *_MOUNT_PROGRAM)


def add_mount_option(path: str, data: bytes, option: str, present: str) -> bytes:
    """Return ``data`` with ``option`` among the options of mounts. ``present`` are those in force,
    separated by commas. Raises InputError."""
    words = [word for word in present.split(",") if word.strip()]
    if option in words:
        return data

    def change(document: Any) -> None:
        table = document
        for name in _MOUNT_OPTIONS[:-1]:
            if name not in table:
                table[name] = tomlkit.table()
            table = table[name]
        table[_MOUNT_OPTIONS[-1]] = ",".join([*words, option])

    return _edit(path, data, change, _MOUNT_OPTIONS)


def _as_plain(item: Any) -> object:
    return item.unwrap() if isinstance(item, Array) else item


def _edit(path: str, data: bytes, change: Callable[[Any], None], *keys: tuple[str, ...]) -> bytes:
    """Apply ``change`` (of ``keys``) to the document, and to a plain copy to see that both agree.

    tomlkit keeps comments and order, but has lost or misplaced keys of unusually ordered tables:
    a file that it would damage is not written.
    """
    document = parse(path, data)
    wanted = copy.deepcopy(document.unwrap())
    for name in ("storage", "containers"):
        section(path, wanted, name, "options")
    if isinstance(wanted.get("storage"), dict):
        section(path, wanted, "storage", "options", "overlay")
    for key in keys:
        refuse_capitals(path, wanted, *key)
    change(wanted)
    if wanted == document.unwrap():
        return data
    try:
        change(document)
        text = tomlkit.dumps(document)
        result = (BOM if data.startswith(BOM) else b"") + text.encode("utf-8")
        if parse(path, result).unwrap() == wanted and _comments(text) >= _comments(data.decode()):
            return result
    except (TOMLKitError, InputError, AttributeError, TypeError, ValueError, KeyError):
        pass
    raise InputError(
        f"can't edit {printable(path)} without damage: its tables are in an unusual order",
        "put [storage], [storage.options] and [storage.options.overlay] in this order, each once",
    )


def _comments(text: str) -> int:
    return sum(line.lstrip().startswith("#") for line in text.splitlines())
