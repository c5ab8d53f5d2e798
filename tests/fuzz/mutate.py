# SPDX-License-Identifier: Apache-2.0
"""Make bad input out of good: bytes changed, pieces swapped, JSON with hostile values in it."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

_HEX = "0123456789abcdef" * 4
_TEXTS = [
    "",
    "..",
    "../../etc",
    "/etc/passwd",
    "a/../b",
    "sha256:" + _HEX,
    "sha256:../../etc/passwd",
    "sha256:" + _HEX.upper(),
    "sha512:" + _HEX * 2,
    ".wh.",
    ".wh..wh..opq",
    ".wh../",
    "\x00",
    "\x1b[2Jcleared",
    "line\nbreak",
    "\u202ereversed",
    "\ud800",
    "null",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999+23:59",
    "2020-02-30T25:61:61Z",
    "2020-02-20T20:20:20.\u0663Z",
    "\u0662020-02-20t20:20:20z",
    "2020-02-20T20:20:20+24:00",
    "%s%n",
    "a" * 300,
    "http://[::1",
    "registry:99999/x:1",
    "localhost/",
    "{{.Names}}",
    "*",
    "[!]*",
    '"',
    "\\",
    "'",
    "$(id)",
]
_VALUES: list[Any] = [
    *_TEXTS,
    None,
    True,
    False,
    0,
    -1,
    (1 << 63) - 1,
    1 << 63,
    1 << 200,
    1e308,
    0.5,
    [],
    {},
    [[]],
    {"": {}},
    {"a": "b"},
    ["a", None, "b"],
    "bmFtZQ==",
    ["sha256:" + _HEX] * 3,
    {"digest": "sha256:" + _HEX, "size": -1},
]
#: Ways to write a name that are the same to one who takes names without case.
_CASES: Sequence[Callable[[str], str]] = (
    str.upper,
    str.lower,
    str.title,
    lambda name: name.replace("s", "\u017f").replace("k", "\u212a"),
)
#: What Python takes for JSON as well.
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32")
_TOKENS = [
    *(text.encode("utf-8", "surrogatepass") for text in _TEXTS),
    *(b"[" * 50, b'{"a":' * 50, b"]", b"}", b"NaN", b"Infinity", b"-", b"1e999", b"\xef\xbb\xbf"),
    *(b'"os": 5,', b'"created": "", ', b"9" * 400, b"1.0", b"\\u0032"),
    *(
        b"\xff\xfe",
        b"\x80",
        b"\r\n",
        b"\t",
        b":",
        b"@",
        b"/",
        b"=",
        b",",
        b";",
        b"#",
        b"- ",
        b"&a *a",
    ),
    *(b"!!python/object:os.system ", b"<<: *a", b"|\n", b"[[registry]]\n", b"'''", b'"""'),
]


def mutate(seeds: Sequence[bytes], random_: random.Random) -> bytes:
    """Return one bad input made of some of ``seeds``."""
    data = random_.choice(seeds)
    if random_.random() < 0.5:
        changed = _changed_json(data, random_)
        if changed is not None:
            if random_.random() < 0.7:
                return changed
            data = changed
    for _ in range(random_.choice((1, 1, 2, 3, 8))):
        data = random_.choice(_STEPS)(data, seeds, random_)
    return data


def _flip(data: bytes, seeds: Sequence[bytes], random_: random.Random) -> bytes:
    if not data:
        return bytes([random_.randrange(256)])
    place = random_.randrange(len(data))
    return data[:place] + bytes([random_.randrange(256)]) + data[place + 1 :]


def _cut(data: bytes, seeds: Sequence[bytes], random_: random.Random) -> bytes:
    start = random_.randrange(len(data) + 1)
    end = random_.choice((start + random_.randrange(1, 9), len(data)))
    return data[:start] + data[end:]


def _insert(data: bytes, seeds: Sequence[bytes], random_: random.Random) -> bytes:
    place = random_.randrange(len(data) + 1)
    return data[:place] + random_.choice(_TOKENS) + data[place:]


def _double(data: bytes, seeds: Sequence[bytes], random_: random.Random) -> bytes:
    start = random_.randrange(len(data) + 1)
    piece = data[start : start + random_.randrange(1, 40)]
    return data[:start] + piece * random_.choice((1, 2, 30)) + data[start:]


def _splice(data: bytes, seeds: Sequence[bytes], random_: random.Random) -> bytes:
    other = random_.choice(seeds)
    return data[: random_.randrange(len(data) + 1)] + other[random_.randrange(len(other) + 1) :]


_STEPS = (_flip, _flip, _cut, _insert, _insert, _double, _splice)


def _changed_json(data: bytes, random_: random.Random) -> bytes | None:
    """A document with some of its values replaced, removed or put elsewhere; None for no JSON."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for _ in range(random_.choice((1, 1, 2, 4))):
        places = list(_places(document, 0))
        if not places:
            document = copy.deepcopy(random_.choice(_VALUES))
            continue
        holder, key = random_.choice(places)
        action = random_.randrange(8)
        if action == 0:
            del holder[key]
        elif action == 1:
            holder[key] = random_.choice(places)[0]
        elif action == 2 and isinstance(holder, dict):
            way = random_.choice(_CASES) if random_.random() < 0.8 else None
            name = random_.choice(_TEXTS) if way is None else way(key)
            holder[name] = holder.pop(key)
        elif action == 4 and isinstance(holder, dict):
            # There twice, to one who takes names without case.
            holder[random_.choice(_CASES)(key)] = copy.deepcopy(random_.choice(_VALUES))
        elif action == 3 and isinstance(holder, list):
            holder *= random_.choice((2, 3))
        else:
            holder[key] = copy.deepcopy(random_.choice(_VALUES))
        # A value may have come to lie within itself.
        try:
            document = json.loads(json.dumps(document))
        except (ValueError, RecursionError):
            return None
    text = json.dumps(document, ensure_ascii=random_.random() < 0.5)
    if random_.random() < 0.1:
        text = _with_escape(text, random_)
    encoding = "utf-8" if random_.random() < 0.98 else random_.choice(_ENCODINGS)
    return text.encode(encoding, "surrogatepass")


def _with_escape(text: str, random_: random.Random) -> str:
    """The same document with one character of a string written as an escape."""
    strings = list(re.finditer(r'"[^"\\]+"', text))
    if not strings:
        return text
    place = random_.choice(strings)
    index = random_.randrange(place.start() + 1, place.end() - 1)
    return f"{text[:index]}\\u{ord(text[index]) & 0xFFFF:04x}{text[index + 1 :]}"


def _places(value: Any, depth: int) -> Any:
    if depth > 8:
        return
    if isinstance(value, dict):
        for key, each in value.items():
            yield value, key
            yield from _places(each, depth + 1)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield value, index
            yield from _places(each, depth + 1)
