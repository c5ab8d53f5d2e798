# SPDX-License-Identifier: Apache-2.0
"""Requests and answers: what is no answer is refused, whatever it looks like."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podman_cvmfs.errors import InputError
from podman_cvmfs.storage_native import CallError, ChildError, PanicError, records
from podman_cvmfs.storage_native.envelope import MAX_REQUEST, request, result
from podman_cvmfs.storage_native.records import Config

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)

_READERS: tuple[Callable[[object], object], ...] = (
    records.read_version,
    records.read_config,
    records.read_images,
    records.read_layers,
    records.read_bytes,
    records.read_mounted,
    records.read_check,
)

_IMAGE: dict[str, Any] = {
    "id": "i",
    "digest": "sha256:d",
    "names": ["n"],
    "layer": "l",
    "created": "2024-05-06T07:08:09Z",
    "big_data": [{"key": "manifest", "size": 2, "digest": ""}],
    "read_only": True,
}


def _answer(**fields: object) -> bytes:
    return json.dumps({"log": [], **fields}).encode()


@given(st.text())
def test_a_request_is_one_line_of_ascii(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(InputError):
            request("lookup", {"image": text})
        return
    line = request("lookup", {"image": text})
    assert line.isascii()
    assert b"\n" not in line
    assert b"\0" not in line
    assert json.loads(line) == {"call": "lookup", "arguments": {"image": text}}


def test_requests_that_are_refused() -> None:
    with pytest.raises(InputError, match="UTF-8"):
        request("open", {"stores": ["/caf\udce9"]})
    with pytest.raises(InputError, match="too large"):
        request("lookup", {"image": "x" * MAX_REQUEST})


def test_a_result_and_what_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"level": "warning", "message": "beware\x1b[31m"},
        {"level": "debug", "message": "chatter"},
        {"level": "fatal", "message": "the end"},
    ]
    with caplog.at_level(logging.DEBUG):
        assert result(_answer(result=0, log=lines), "x") == 0
    assert [record.levelno for record in caplog.records] == [30, 10, 40]
    assert "\\x1b[31m" in caplog.text
    assert "\x1b" not in caplog.text
    assert result(_answer(result=None), "x") is None


def test_errors_become_exceptions() -> None:
    with pytest.raises(CallError, match=r"lookup: no such \\x07") as raised:
        result(_answer(error={"kind": "unknown", "message": "no such \a"}), "lookup")
    assert raised.value.kind == "unknown"
    assert not isinstance(raised.value, PanicError)
    with pytest.raises(PanicError):
        result(_answer(error={"kind": "panic", "message": "nil map"}), "lookup")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"{",
        b'{"result": 1, "log": [',
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"result": 1}',
        b'{"log": []}',
        b'{"result": 1, "log": null}',
        b'{"result": 1, "log": [1]}',
        b'{"result": 1, "log": [{"level": "info"}]}',
        b'{"result": 1, "log": [{"level": 1, "message": ""}]}',
        b'{"error": "bad", "log": []}',
        b'{"error": {}, "log": []}',
        b'{"error": {"kind": 1, "message": "x"}, "log": []}',
        b'{"error": {"kind": "x", "message": null}, "log": []}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 10_000,
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    with pytest.raises(ChildError):
        result(answer, "images")


@given(_JSON)
def test_results_of_another_form_are_refused(value: object) -> None:
    for read in _READERS:
        try:
            read(value)
        except ChildError:
            continue
        assert value == [] or isinstance(value, str)


@pytest.mark.parametrize("field", list(_IMAGE))
@given(value=_JSON)
def test_every_field_of_an_image_is_checked(field: str, value: object) -> None:
    assert len(records.read_images([_IMAGE])) == 1
    try:
        (image,) = records.read_images([{**_IMAGE, field: value}])
    except ChildError:
        return
    assert type(value) is type(_IMAGE[field])
    hash(image)


def test_a_number_is_no_flag_and_a_flag_no_number() -> None:
    version = {"abi": 1, "storage": "1", "go": "go1", "pid": 1}
    assert records.read_version(version).abi == 1
    for wrong in (True, 1.0, "1", None):
        with pytest.raises(ChildError):
            records.read_version({**version, "abi": wrong})
    with pytest.raises(ChildError):
        records.read_images([{**_IMAGE, "read_only": 1}])


def test_bytes() -> None:
    assert records.read_bytes("AAEC") == b"\0\1\2"
    for wrong in ("A", "AA=A", "\u00e9", "A\nAEC"):
        with pytest.raises(ChildError):
            records.read_bytes(wrong)


def test_additional_stores_among_the_options() -> None:
    config = Config(
        "/g",
        "/r",
        "overlay",
        (
            "imagestore=/a",
            "overlay.imagestore=/b,/c",
            "overlay.additionalimagestore=/d",
            "overlay.mountopt=nodev",
            "nonsense",
        ),
    )
    assert config.additional_stores == ("/a", "/b", "/c", "/d")
