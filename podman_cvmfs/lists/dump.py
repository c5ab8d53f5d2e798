# SPDX-License-Identifier: Apache-2.0
"""Writes and reads file lists as text: composefs-dump(5), a line for each entry.

Source: composefs 1.0 ``man/composefs-dump.md`` and ``tools/mkcomposefs.c``. A line is ``PATH SIZE
MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST [XATTR=VALUE]..``. Our lists use a part of the
format: the lines are in list order (``entry``), a hard link follows the entry that it names,
CONTENT is ``-``, and the payload of a file is the path of its data from the layer's root. Whiteouts
and ``trusted.overlay.*`` attributes are those of a layer: mkcomposefs would escape them.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.lists.entry import NOTES, OPAQUE, Entry, list_order

#: No list may have more entries. The largest images known have less than a tenth.
MAX_ENTRIES = 4_000_000
#: In bytes. Paths and attributes that Linux can store fit, with each byte escaped.
MAX_LINE = 1024 * 1024
_FIELDS = 11
_BILLION = 1_000_000_000

_ODD = re.compile(rb"[^!-\[\]-~]")
_ODD_OR_EQUAL = re.compile(rb"[^!-<>-\[\]-~]")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_SHORT = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_NUMBER = re.compile(rb"[0-9]{1,19}\Z")
_MODE = re.compile(rb"@?[0-7]{1,6}\Z")
_TIME = re.compile(rb"(-?[0-9]{1,12})\.([0-9]{1,9})\Z")
_TYPES = frozenset(
    (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)
    + (stat.S_IFSOCK,)
)
#: In bytes; Linux has no longer ones.
_MAX_NAME = 255
_MAX_TARGET = 4095
_MAX_VALUE = 65536


class _BadLineError(Exception):
    """A line is wrong; the text says why."""


def write(entries: Collection[Entry]) -> Iterator[bytes]:
    """The lines of a list, each with its newline; ``entries`` are gone through twice.

    Equal lists give equal bytes.
    """
    links: Counter[str] = Counter()
    for each in entries:
        if each.hardlink is not None:
            links[each.hardlink] += 1
        elif each.is_directory and each.path:
            links[each.path.rpartition("/")[0]] += 1
    for each in entries:
        above = each.hardlink if each.hardlink is not None else each.path
        yield _line(each, links[above] + (2 if each.is_directory else 1))


def _line(entry: Entry, links: int) -> bytes:
    mode = b"%o" % entry.mode
    payload = b"-"
    if entry.hardlink is not None:
        mode, payload = b"@" + mode, _escaped(b"/" + os.fsencode(entry.hardlink))
    elif entry.target is not None:
        payload = _optional(os.fsencode(entry.target))
    elif entry.backing is not None:
        payload = _optional(os.fsencode(entry.backing))
    numbers = b"%d %b %d %d %d %d" % (entry.size, mode, links, entry.uid, entry.gid, entry.rdev)
    time = b"%d.%d" % divmod(entry.mtime_ns, _BILLION)
    path = _escaped(b"/" + os.fsencode(entry.path))
    fields = [path, numbers, time, payload, b"-", b"-"]
    for name, value in entry.xattrs:
        odd = _ODD_OR_EQUAL
        fields.append(_escaped(os.fsencode(name), odd) + b"=" + _escaped(value, odd))
    return b" ".join(fields) + b"\n"


def _escaped(text: bytes, odd: re.Pattern[bytes] = _ODD) -> bytes:
    return odd.sub(lambda found: b"\\x%02x" % found[0][0], text)


def _optional(text: bytes) -> bytes:
    """Like ``_escaped``; what looks like a missing field is escaped as well."""
    return b"\\x2d" if text == b"-" else _escaped(text)


def read(lines: Iterable[bytes], what: str, limit: int = MAX_ENTRIES) -> Iterator[Entry]:
    """The entries of a list, as they are read; ``what`` is what messages call the list.

    The entries are in list order, the root is the first, every directory is there before its
    content, and ``hardlink`` names an earlier entry that is no directory and no hard link. Raises
    InputError for all other lists, and for those with more than ``limit`` entries; entries may have
    been returned by then.
    """
    check = _Check()
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if number > limit:
                raise _BadLineError(f"it has more than {limit} entries")
            if len(line) > MAX_LINE:
                raise _BadLineError("it is too long")
            entry, links = _entry(line)
            check.follows(entry, links)
            yield entry
        if not number:
            raise _BadLineError("it is empty")
    except _BadLineError as err:
        shown = printable(what)
        raise InputError(f"{shown} is not a valid file list: line {number}: {err}") from None


class _Check:
    """Knows what came before; only entries with several links are remembered by name."""

    def __init__(self) -> None:
        #: The last entry's sort key; None before the root.
        self._last: bytes | None = None
        #: The directories above the last entry and, if it is one, itself, by their sort keys.
        self._open: list[bytes] = []
        #: The first of each group of hard links -> its mode.
        self._groups: dict[str, int] = {}

    def follows(self, entry: Entry, links: int) -> None:
        """Raise _BadLineError if ``entry`` can't come next."""
        key = list_order(entry.path)
        if self._last is None:
            if entry.path or not entry.is_directory:
                raise _BadLineError("the first entry must be the root directory")
        elif key <= self._last:
            raise _BadLineError("the path is out of order")
        above = key.rpartition(b"\0")[0]
        while self._open and self._open[-1] != above:
            self._open.pop()
        if key and not self._open:
            raise _BadLineError("the directory of the path isn't listed before it")
        self._last = key
        if entry.is_directory:
            self._open.append(key)
        if entry.hardlink is not None:
            if self._groups.get(entry.hardlink) != entry.mode:
                raise _BadLineError("a hard link names no earlier entry of several links")
        elif links > 1 and not entry.is_directory:
            self._groups[entry.path] = entry.mode


def _entry(line: bytes) -> tuple[Entry, int]:
    """The entry in a line, and its number of links."""
    if b"\0" in line:
        raise _BadLineError("it holds a null byte")
    fields = line[:-1].split(b" ") if line.endswith(b"\n") else line.split(b" ")
    if len(fields) < _FIELDS:
        raise _BadLineError(f"it has {len(fields)} fields, not {_FIELDS}")
    path, size, mode_text, links, uid, gid, rdev, time, payload, content, _ = fields[:_FIELDS]
    if not _MODE.match(mode_text):
        raise _BadLineError("the mode isn't valid")
    mode = int(mode_text.lstrip(b"@"), 8)
    if stat.S_IFMT(mode) not in _TYPES:
        raise _BadLineError("the mode has no valid type")
    if content != b"-":
        raise _BadLineError("it has content, which belongs in the layer")
    found = Entry(
        path=_inside(path, absolute=True),
        mode=mode,
        uid=_number(uid, "the owner", 0xFFFFFFFF),
        gid=_number(gid, "the group", 0xFFFFFFFF),
        size=0 if stat.S_ISDIR(mode) else _number(size, "the size", (1 << 63) - 1),
        mtime_ns=_time(time),
        rdev=_number(rdev, "the device", 0xFFFFFFFF),
        xattrs=tuple(sorted(map(_attribute, fields[_FIELDS:]))),
    )
    if len({name for name, _ in found.xattrs}) < len(found.xattrs):
        raise _BadLineError("it has an attribute twice")
    for name, value in found.xattrs:
        is_opaque = (name, value) == (OPAQUE, b"y") and found.is_directory and found.path
        if name.startswith(NOTES) and not is_opaque:
            raise _BadLineError("it has an attribute that only overlayfs may set")
    count = _number(links, "the number of links", 0xFFFFFFFF)
    return _with_payload(found, payload, mode_text.startswith(b"@")), count


def _with_payload(entry: Entry, payload: bytes, is_hard_link: bool) -> Entry:
    if is_hard_link:
        if entry.is_directory:
            raise _BadLineError("a directory can't be a hard link")
        return entry._replace(hardlink=_inside(payload, absolute=True))
    if stat.S_ISLNK(entry.mode):
        target = os.fsdecode(_plain(payload))
        if payload == b"-" or not target or len(os.fsencode(target)) > _MAX_TARGET:
            raise _BadLineError("the symbolic link has no valid target")
        return entry._replace(target=target)
    has_data = stat.S_ISREG(entry.mode) and entry.size > 0
    if has_data != (payload != b"-"):
        raise _BadLineError("only a file that isn't empty has data, and such a file must have them")
    return entry._replace(backing=_inside(payload, absolute=False)) if has_data else entry


def _plain(field: bytes) -> bytes:
    """A field without escapes. Raises _BadLineError; null bytes are an error, too."""
    text = _unescaped(field)
    if b"\0" in text:
        raise _BadLineError("a path holds a null byte")
    return text


def _unescaped(field: bytes) -> bytes:
    return _ESCAPE.sub(_character, field) if b"\\" in field else field


def _character(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if len(code) == 3:
        return bytes((int(code[1:], 16),))
    if code not in _SHORT:
        raise _BadLineError("an escape isn't valid")
    return _SHORT[code]


def _inside(field: bytes, absolute: bool) -> str:
    """A path from the root without its leading slash. Raises _BadLineError for one that leads out,
    and for one in another than the shortest form."""
    path = _plain(field)
    if absolute:
        if not path.startswith(b"/"):
            raise _BadLineError("a path doesn't begin with a slash")
        path = path[1:]
        if not path:
            return ""
    for name in path.split(b"/"):
        if name in (b"", b".", b"..") or len(name) > _MAX_NAME:
            raise _BadLineError("a path isn't valid")
    return os.fsdecode(path)


def _number(field: bytes, name: str, largest: int) -> int:
    if not _NUMBER.match(field) or int(field) > largest:
        raise _BadLineError(f"{name} isn't a valid number")
    return int(field)


def _time(field: bytes) -> int:
    match = _TIME.match(field)
    if match is None:
        raise _BadLineError("the time isn't valid")
    return int(match[1]) * _BILLION + int(match[2])


def _attribute(field: bytes) -> tuple[str, bytes]:
    name, equal, value = field.partition(b"=")
    key, found = _plain(name), _unescaped(value)
    if not equal or not key or len(key) > _MAX_NAME or len(found) > _MAX_VALUE:
        raise _BadLineError("an extended attribute isn't valid")
    return os.fsdecode(key), found
