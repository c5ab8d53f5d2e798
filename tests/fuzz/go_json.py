# SPDX-License-Identifier: Apache-2.0
"""What Go's ``encoding/json`` decodes into podman's structures, told by another way than ours.

Every member counts, those that are there twice as well, and strings are seen as they are written:
Go reads a time without undoing escapes.
"""

from __future__ import annotations

import json
import json.scanner
import re
from typing import Any

#: A type is a string for a Go type, [type] for a slice of it, {"*": type} for a map, or else a
#: structure's members.
Type = Any

_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)\Z",
    re.ASCII,
)
_TEXTS = ["string"]
_TEXT_MAP = {"*": "string"}
_SET: Type = {"*": {}}
_SETTINGS: Type = {
    "User": "string",
    "ExposedPorts": _SET,
    "Env": _TEXTS,
    "Entrypoint": _TEXTS,
    "Cmd": _TEXTS,
    "Volumes": _SET,
    "WorkingDir": "string",
    "Labels": _TEXT_MAP,
    "StopSignal": "string",
    "ArgsEscaped": "bool",
    "Healthcheck": {"Test": _TEXTS, "Interval": "int", "Timeout": "int", "Retries": "int"},
    "Hostname": "string",
    "Tty": "bool",
    "OnBuild": _TEXTS,
    "StopTimeout": "int",
}
CONFIG: Type = {
    "created": "time",
    "author": "string",
    "architecture": "string",
    "variant": "string",
    "os": "string",
    "os.version": "string",
    "os.features": _TEXTS,
    "config": _SETTINGS,
    "container_config": {**_SETTINGS, "Entrypoint": "any", "Cmd": "any"},
    "rootfs": {"type": "string", "diff_ids": _TEXTS},
    "history": [
        {
            "created": "time",
            "created_by": "string",
            "author": "string",
            "comment": "string",
            "empty_layer": "bool",
        }
    ],
    "docker_version": "string",
    "Size": "int",
}
_DESCRIPTOR: Type = {
    "mediaType": "string",
    "digest": "string",
    "size": "int",
    "urls": _TEXTS,
    "annotations": _TEXT_MAP,
    "platform": {"os": "string", "architecture": "string", "os.features": _TEXTS},
}
MANIFEST: Type = {
    "schemaVersion": "int",
    "mediaType": "string",
    "config": _DESCRIPTOR,
    "layers": [_DESCRIPTOR],
    "subject": _DESCRIPTOR,
    "annotations": _TEXT_MAP,
    "fsLayers": "null",
    "history": "null",
    "manifests": "null",
}


class _Text(str):
    """A string, and how it is written."""

    raw: str


class _Members(list[Any]):
    """An object's members in order."""


class _Decoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_Members)
        self.parse_string = self._string
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]

    @staticmethod
    def _string(source: str, start: int, strict: bool) -> tuple[_Text, int]:
        decoded, end = json.decoder.scanstring(source, start, strict)  # type: ignore[attr-defined]
        text = _Text(decoded)
        text.raw = source[start : end - 1]
        return text, end


def assert_go_decodes(data: bytes, into: Type) -> None:
    """AssertionError if Go doesn't decode the document ``data`` into the structure ``into``."""
    text = data.decode("utf-8")
    document = _Decoder().decode(text)
    assert isinstance(document, _Members)
    _check(document, into)


def _check(value: Any, into: Type) -> None:
    if value is None or into == "any":
        return
    if isinstance(into, list):
        assert type(value) is list, value
        for each in value:
            _check(each, into[0])
    elif isinstance(into, dict):
        assert isinstance(value, _Members), value
        types = {_fold(name): each for name, each in into.items()}
        for name, each in value:
            _check(each, into.get("*", types.get(_fold(name), "any")))
    elif into == "time":
        assert isinstance(value, _Text) and _TIME.match(value.raw), value
    elif into == "string":
        assert isinstance(value, _Text), value
    elif into == "bool":
        assert isinstance(value, bool), value
    else:
        assert into == "int", value
        assert type(value) is int and -(1 << 63) <= value < 1 << 63, value


def _fold(name: str) -> str:
    """Names are compared without case, in which two odd letters are a K and an S."""
    return name.replace("\u212a", "k").replace("\u017f", "s").lower()
