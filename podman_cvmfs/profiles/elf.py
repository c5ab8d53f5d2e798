# SPDX-License-Identifier: Apache-2.0
"""What a program in ELF says of the files that it needs. Nobody has checked the file's bytes.

Format: System V ABI, chapters 4 and 5 (``elf.h``); both sizes, both byte orders.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

_MAGIC = b"\x7fELF"
_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _STRSZ, _RPATH, _RUNPATH = 1, 5, 10, 15, 29
_HEADER = 64
#: More of anything is no program that a loader would take in earnest. Bytes, except the first.
_MAX_HEADERS, _MAX_DYNAMIC, _MAX_STRINGS, _MAX_NAME = 512, 1 << 16, 1 << 22, 4096


@dataclass(frozen=True)
class Needs:
    """``interpreter`` is the loader's path, "" in a library; ``needed`` are names of libraries, or
    paths; ``rpath`` and ``runpath`` are where to look for them."""

    interpreter: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


def needs_of(read: Callable[[int, int], bytes]) -> Needs | None:
    """The needs of a program or library; None if it is no ELF file, or a broken one.

    ``read`` returns bytes of the file from an offset on, so many or fewer. What it raises is
    raised.
    """
    head = read(0, _HEADER)
    if head[:4] != _MAGIC or head[4:5] not in (b"\1", b"\2") or head[5:6] not in (b"\1", b"\2"):
        return None
    try:
        return _needs(head, read, wide=head[4] == 2, order="<" if head[5] == 1 else ">")
    except (struct.error, OverflowError):
        return None


def _needs(head: bytes, read: Callable[[int, int], bytes], wide: bool, order: str) -> Needs:
    place = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
    size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    count = min(count, _MAX_HEADERS)
    headers = read(place, size * count)
    segments = []
    for number in range(count):
        # Type, offset, address, size in the file.
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(
                f"{order}IIQQQQ", headers, number * size
            )
        else:
            kind, offset, address, _, length = struct.unpack_from(
                f"{order}IIIII", headers, number * size
            )
        segments.append((kind, offset, address, length))
    interpreter = ""
    entries: list[tuple[int, int]] = []
    for kind, offset, _, length in segments:
        if kind == _INTERP:
            interpreter = _text(read(offset, min(length, _MAX_NAME)), 0)
        elif kind == _DYNAMIC:
            entries = _dynamic(read(offset, min(length, _MAX_DYNAMIC)), wide, order)
    values = dict(entries)
    table = values.get(_STRTAB)
    strings = None
    for kind, offset, address, length in segments:
        if kind == _LOAD and table is not None and address <= table < address + length:
            strings = read(offset + table - address, min(values.get(_STRSZ, 0), _MAX_STRINGS))
    if strings is None:
        return Needs(interpreter)
    needed = (_text(strings, value) for tag, value in entries if tag == _NEEDED)
    return Needs(
        interpreter,
        tuple(name for name in needed if name),
        _directories(strings, values.get(_RPATH)),
        _directories(strings, values.get(_RUNPATH)),
    )


def _directories(strings: bytes, offset: int | None) -> tuple[str, ...]:
    """The parts of a search path. The loader takes the last one of a file."""
    text = "" if offset is None else _text(strings, offset)
    return tuple(part for part in text.split(":") if part)


def _dynamic(data: bytes, wide: bool, order: str) -> list[tuple[int, int]]:
    """Tags and values until the end of the table."""
    pair = struct.Struct(order + ("qQ" if wide else "iI"))
    entries = []
    for number in range(len(data) // pair.size):
        tag, value = pair.unpack_from(data, number * pair.size)
        if tag == 0:
            break
        entries.append((tag, value))
    return entries


def _text(data: bytes, offset: int) -> str:
    """The text that ends with a null byte; "" if it isn't there."""
    end = data.find(b"\0", offset, offset + _MAX_NAME)
    return "" if end < 0 else data[offset:end].decode("utf-8", "surrogateescape")
