# SPDX-License-Identifier: Apache-2.0
"""Requests to the library and its answers, as JSON. Pure: no I/O.

    {"call": "images", "arguments": {"store": 1}}
    {"result": [..], "log": [{"level": "warning", "message": ".."}]}
    {"error": {"kind": "unknown", "message": ".."}, "log": [..]}

An answer repeats what a store holds, which may be anything: nothing in it is trusted.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.oci.documents import parse_json
from podman_cvmfs.storage_native.errors import CallError, ChildError, PanicError

log = logging.getLogger(__name__)

#: Larger requests are refused; go/main.go has the same number.
MAX_REQUEST = 16 * 1024 * 1024
#: Larger answers are refused: some 100,000 images.
MAX_ANSWER = 512 * 1024 * 1024

_LEVELS = {
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


def request(call: str, arguments: dict[str, Any]) -> bytes:
    """One line of ASCII. Raises InputError for text that isn't Unicode or is too long.

    Go would silently put a replacement character for a lone surrogate, which is how Python spells
    file names that aren't UTF-8, and then open another file.
    """
    text = json.dumps({"call": call, "arguments": arguments}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{call}: the containers/storage library takes names in UTF-8 only"
        ) from None
    encoded = json.dumps({"call": call, "arguments": arguments}).encode()
    if len(encoded) >= MAX_REQUEST:
        raise InputError(f"{call}: a request of {len(encoded)} bytes is too large")
    return encoded


def result(answer: bytes, what: str) -> Any:
    """The result in an answer; what the library logged goes to our log.

    Raises CallError (PanicError) with the library's own error, ChildError for what is no answer;
    ``what`` names the call in it.
    """
    try:
        document = parse_json(answer, f"the answer to {what}")
    except InputError as err:
        raise ChildError(err.message) from None
    if not isinstance(document, dict) or not isinstance(document.get("log"), list):
        raise nonsense(what)
    for line in document["log"]:
        _repeat(line, what)
    if "error" in document:
        error = document["error"]
        if not isinstance(error, dict):
            raise nonsense(what)
        kind, message = error.get("kind"), error.get("message")
        if not isinstance(kind, str) or not isinstance(message, str):
            raise nonsense(what)
        raise (PanicError if kind == "panic" else CallError)(
            printable(kind), f"containers/storage: {what}: {printable(message)}"
        )
    if "result" not in document:
        raise nonsense(what)
    return document["result"]


def nonsense(what: str) -> ChildError:
    """The error for an answer of the wrong form."""
    return ChildError(f"the answer to {what} is not what the containers/storage library writes")


def _repeat(line: object, what: str) -> None:
    if not isinstance(line, dict):
        raise nonsense(what)
    level, message = line.get("level"), line.get("message")
    if not isinstance(level, str) or not isinstance(message, str):
        raise nonsense(what)
    log.log(_LEVELS.get(level, logging.ERROR), "containers/storage: %s", printable(message))
