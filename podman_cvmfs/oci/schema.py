# SPDX-License-Identifier: Apache-2.0
"""What podman can decode of an image's config and manifest. Pure: no I/O.

``podman images`` decodes these two of every image in every store, and shows none of them where one
can't be decoded. So a field of a wrong type is refused here, for the one image that has it. The
rules are those of Go's ``encoding/json``: names are compared without case, null leaves a field
unset, and what no structure knows is skipped. Two spellings of one name are refused: two readers
might take different ones.

Sources: OCI image-spec v1.1 ``specs-go/v1`` (``config.go``, ``manifest.go``, ``descriptor.go``) and
containers/image v5 ``manifest/docker_schema2.go``. podman reads a config as both, whatever the
manifest's type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable, Optional

from podman_cvmfs.errors import printable
from podman_cvmfs.oci.times import is_time


class Repeated(dict[str, Any]):
    """An object in which a name stands twice, with the last value of each."""


#: Says what is wrong with a value: where in it, and what it should be; None if nothing is.
Check = Callable[[Any], Optional[str]]

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_LONGEST_NAME = 80


def member(document: Mapping[str, Any], name: str) -> Any:
    """The value that Go finds under ``name``; None if there is none."""
    if name in document:
        return document[name]
    folded = name.casefold()
    return next((value for key, value in document.items() if key.casefold() == folded), None)


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, str) else " must be a string"


def _flag(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else " must be true or false"


def _number(value: Any) -> str | None:
    if value is None or (type(value) is int and -(1 << 63) <= value < 1 << 63):
        return None
    return " must be a whole number of 64 bits"


def _time(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and is_time(value)):
        return None
    return " must be a time like 2020-09-13T12:26:40Z"


def _base64(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and _BASE64.match(value.replace("\r", "").replace("\n", "")):
        return None
    return " must be a string in base64"


def _forbidden(value: Any) -> str | None:
    """For what podman takes for the mark of another kind of manifest."""
    return None if value is None else " doesn't belong in the manifest of an image"


def _list_of(check: Check) -> Check:
    def check_list(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, list):
            return " must be an array"
        for number, each in enumerate(value):
            problem = check(each)
            if problem is not None:
                return f"[{number}]{problem}"
        return None

    return check_list


def _map_of(check: Check) -> Check:
    """Of an object whose names are anybody's choice."""

    def check_map(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            return " must be an object"
        for name, each in value.items():
            problem = check(each)
            if problem is not None:
                return f".{_shown(name)}{problem}"
        return None

    return check_map


def _struct(fields: Mapping[str, Check]) -> Check:
    """Of an object whose names have a meaning."""
    folded = {name.casefold(): check for name, check in fields.items()}

    def check_struct(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            return " must be an object"
        if isinstance(value, Repeated):
            return " has a member twice"
        for name, each in value.items():
            check = fields.get(name)
            if check is None:
                check = folded.get(name.casefold())
                if check is None:
                    continue
                if sum(other.casefold() == name.casefold() for other in value) > 1:
                    return f".{_shown(name)} is there twice, in upper and lower case"
            problem = check(each)
            if problem is not None:
                return f".{_shown(name)}{problem}"
        return None

    return check_struct


def _shown(name: str) -> str:
    return printable(name[:_LONGEST_NAME])


def _text_or_texts(value: Any) -> str | None:
    return None if isinstance(value, str) else _TEXTS(value)


_TEXTS = _list_of(_text)
_TEXT_MAP = _map_of(_text)
_SET = _map_of(_struct({}))

_HEALTHCHECK = _struct(
    {
        "Test": _TEXTS,
        **dict.fromkeys(("StartPeriod", "StartInterval", "Interval", "Timeout"), _number),
        "Retries": _number,
    }
)
_SETTINGS: dict[str, Check] = {
    **dict.fromkeys(("User", "WorkingDir", "StopSignal", "Hostname", "Domainname"), _text),
    **dict.fromkeys(("Image", "MacAddress"), _text),
    **dict.fromkeys(("ExposedPorts", "Volumes"), _SET),
    **dict.fromkeys(("Env", "OnBuild", "Entrypoint", "Cmd"), _TEXTS),
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr"), _flag),
    **dict.fromkeys(("Tty", "OpenStdin", "StdinOnce"), _flag),
    **dict.fromkeys(("ArgsEscaped", "NetworkDisabled"), _flag),
    "Labels": _TEXT_MAP,
    "Healthcheck": _HEALTHCHECK,
    "StopTimeout": _number,
    "Shell": _text_or_texts,
}
#: OCI doesn't know it, and Docker's own reader takes one word for a list of one.
_CONTAINER = {**_SETTINGS, **dict.fromkeys(("Entrypoint", "Cmd"), _text_or_texts)}
_HISTORY = _struct(
    {
        "created": _time,
        **dict.fromkeys(("created_by", "author", "comment"), _text),
        "empty_layer": _flag,
    }
)
_PLATFORM: dict[str, Check] = {
    **dict.fromkeys(("architecture", "os", "os.version", "variant"), _text),
    "os.features": _TEXTS,
}
_CONFIG = _struct(
    {
        **_PLATFORM,
        "created": _time,
        **dict.fromkeys(("id", "parent", "comment", "container"), _text),
        **dict.fromkeys(("docker_version", "author"), _text),
        "config": _struct(_SETTINGS),
        "container_config": _struct(_CONTAINER),
        "rootfs": _struct({"type": _text, "diff_ids": _TEXTS}),
        "history": _list_of(_HISTORY),
        "Size": _number,
    }
)
_DESCRIPTOR = _struct(
    {
        **dict.fromkeys(("mediaType", "digest", "artifactType"), _text),
        "size": _number,
        "urls": _TEXTS,
        "annotations": _TEXT_MAP,
        "data": _base64,
        "platform": _struct(_PLATFORM),
    }
)
_MANIFEST = _struct(
    {
        "schemaVersion": _number,
        **dict.fromkeys(("mediaType", "artifactType"), _text),
        **dict.fromkeys(("config", "subject"), _DESCRIPTOR),
        "layers": _list_of(_DESCRIPTOR),
        "annotations": _TEXT_MAP,
        **dict.fromkeys(("fsLayers", "history", "manifests"), _forbidden),
    }
)


def config_problem(document: Any) -> str | None:
    """Why podman can't decode an image's config, as the end of a sentence; None if it can."""
    return _CONFIG(document)


def manifest_problem(document: Any) -> str | None:
    """The same of an image's manifest."""
    return _MANIFEST(document)
