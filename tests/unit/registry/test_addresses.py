# SPDX-License-Identifier: Apache-2.0
"""Addresses that registries send us to: which are refused, and that the others are connected to."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from podman_cvmfs.registry.addresses import (
    Distance,
    ForbiddenAddressError,
    check_distance,
    distance_by_name,
    distance_of,
    parse_address,
)
from podman_cvmfs.registry.bounds import BoundedSession
from podman_cvmfs.registry.connection import BoundedAdapter

_HERE = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.170.2"),
    *("168.63.129.16", "100.100.100.200", "192.0.0.192", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254"),
    *("fd20:ce::254", "fd00:42::42", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1"),
    *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
)
_SITE = (
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"),
    *("198.18.0.1", "fc00::1", "fd12:3456::1", "fec0::1", "::10.0.0.1", "::ffff:192.168.1.1"),
    *("64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:c0a8:101::", "2001:0:a00:1::f7f7:f7f7"),
)
_ELSEWHERE = (
    *("8.8.8.8", "172.15.0.1", "172.32.0.1", "192.0.1.1", "100.63.0.1", "100.128.0.1", "192.0.2.1"),
    *("168.63.129.17", "223.255.255.255", "2001:db8::1", "2606:4700::1", "::ffff:8.8.8.8"),
    *("64:ff9b::808:808", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7"),
)


@pytest.mark.parametrize(
    ("address", "distance"),
    [
        *((each, Distance.HERE) for each in _HERE),
        *((each, Distance.SITE) for each in _SITE),
        *((each, Distance.ELSEWHERE) for each in _ELSEWHERE),
    ],
)
def test_how_near_an_address_is(address: str, distance: Distance) -> None:
    assert distance_of(address) == distance
    if "%" not in address:
        assert distance_by_name(f"[{address}]" if ":" in address else address) == distance


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "127.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001"),
        *("0", "0x0", "127.0.0.1.", "localhost", "LocalHost.", "x.localhost", "a.b.localhost."),
    ],
)
def test_names_and_forms_of_this_machine(host: str) -> None:
    assert distance_by_name(host) == Distance.HERE


@pytest.mark.parametrize(
    "host", ["localhost.example", "mylocalhost", "127.0.0.1.example", "a" * 99, "\udcff.example"]
)
def test_other_names(host: str) -> None:
    assert distance_by_name(host) == Distance.ELSEWHERE


def test_who_may_send_us_where() -> None:
    for allowed in Distance:
        for distance in Distance:
            if distance <= allowed:
                check_distance(distance, allowed)
            else:
                with pytest.raises(ForbiddenAddressError):
                    check_distance(distance, allowed)
    with pytest.raises(ForbiddenAddressError) as caught:
        check_distance(Distance.SITE, Distance.ELSEWHERE)
    assert "NO_PROXY" in (caught.value.hint or "")


#: Addresses that are plain, and whom they name.
_PLAIN = {
    "http://example.org": "example.org",
    "https://Example.ORG:443/x?a=@b#c@d": "example.org",
    "HTTPS://example.org.:/x": "example.org.",
    "http://127.1:80/": "127.1",
    "http://0x7f.1/": "0x7f.1",
    "http://2130706433/": "2130706433",
    "http://0177.0.0.1/": "0177.0.0.1",
    "http://[::1]:5000/x": "::1",
    "http://[::FFFF:127.0.0.1]/x": "::ffff:127.0.0.1",
    "http://a_b.example/": "a_b.example",
    "http://xn--nxasmq6b.example/": "xn--nxasmq6b.example",
    "http://example.org//evil.example/@x": "example.org",
    "http://example.org?@evil.example": "example.org",
    "http://example.org/..//../x%5c@y": "example.org",
}
#: Addresses that are refused: something may take them for another.
_ODD = (
    *("", "//", "x:y", "http:///x", "http://", "http:", "http:example.org", "http:/example.org"),
    *("file:///etc/passwd", "ftp://192.0.2.1/", "gopher://x/", "//example.org/x", "/x", "x"),
    *("http://[::1/x", "http://::1]/x", "http://::1/", "http://[v1.x]/", "http://[]/"),
    *("http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[::1]x/", "http://[::1]@x/"),
    *("http://a\\@b/", "http://a/\\b", "http:\\\\a/", "http://\\a/", "http://a\\.b/"),
    *("http://user@a/", "http://user:password@a/", "http://@a/", "http://a@b@c/", "http://a%40b/"),
    *("http://%61/", "http://127.0.0.1%00.b/", "http://a%2fb/", "http://%31%32%37.1/"),
    *(" http://a/", "http://a/ ", "http://a b/", "http://a\t/", "http://a/\n", "ht\ntp://a/"),
    *("http://a\x00/", "http://a/\x7f", "http://a\r\nX: y/", "\x01http://a/", "http://a/\x85"),
    *(
        "http://\xe4.example/",
        "http://a。b/",
        "http://①②⑦.1/",
        "http://a\u200b/",
        "http://a\uff0fb",
    ),
    *(
        "http://a\uff20b/",
        "http://a/\xe4",
        "http://\udcff/",
        "http://a:\uff18\uff10/",
        "http://a/\u2028",
    ),
    *("http://a:x/", "http://a:99999/", "http://a:-1/", "http://a:0x50/", "http://a:80:80/"),
    *(
        "http://a:+80/",
        "http://a: 80/",
        "http://a:8_0/",
        "http://a,b@c/",
        "http://{/",
        "http://a;b/",
        "http://a$b/",
        "http://*/",
    ),
)


@pytest.mark.parametrize(("address", "host"), _PLAIN.items())
def test_plain_addresses(address: str, host: str) -> None:
    assert parse_address(address).host == host


@pytest.mark.parametrize("address", _ODD)
def test_odd_addresses(address: str) -> None:
    with pytest.raises(ForbiddenAddressError, match=r"not valid|not an address of the web"):
        parse_address(address)


@pytest.mark.parametrize(
    ("target", "full"),
    [
        *(("/x", "https://a:1/x"), ("//b/x", "https://b/x"), ("y?z=//c", "https://a:1/v/y?z=//c")),
        *(("?a", "https://a:1/v/?a"), ("http://b", "http://b"), ("..//c", "https://a:1//c")),
    ],
)
def test_relative_addresses(target: str, full: str) -> None:
    assert parse_address(target, "https://a:1/v/") == parse_address(full)


class ConnectedError(OSError):
    """The connection would go there; nobody is asked."""


@pytest.mark.parametrize("address", [*_PLAIN, *_ODD])
def test_check_and_connection_agree(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever requests makes of an address: the host that is looked up is the one checked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, *args, **options)
        asked.append(host)
        raise ConnectedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(requests.utils, "getproxies", dict)
    with BoundedSession() as session:
        for prefix in ("http://", "https://"):
            session.mount(prefix, BoundedAdapter(session.reach))
        with pytest.raises((ValueError, requests.RequestException)):
            session.ask(Distance.ELSEWHERE, "GET", address)
    try:
        checked = parse_address(address).host
    except ForbiddenAddressError:
        # requests may have made it plain; then that is what was checked.
        assert all(distance_by_name(host) == Distance.ELSEWHERE for host in asked)
        return
    if distance_by_name(checked) == Distance.ELSEWHERE:
        assert {host.rstrip(".") for host in asked} == {checked.rstrip(".")}
    else:
        assert asked == []


_PIECES = st.sampled_from(
    [
        *("http://", "https://", "//", "/", "\\", "@", ":", "?", "#", "%", "%2f", "%40", "[", "]"),
        *(".", "127.0.0.1", "1", "0x7f", "::1", "a", "example.org", "80", " ", "\t", "\n", "\x00"),
        *("\xe4", "\u3002", "\u2488", "\uff0f", ";", "&", "xn--", "localhost", "%25lo", "*"),
    ]
)


@settings(max_examples=500)
@given(st.lists(_PIECES | st.text(max_size=3), max_size=9).map("".join))
def test_whatever_is_taken_is_read_alike(tail: str) -> None:
    """By requests, and by the pools of urllib3: both name the host that was checked."""
    address = f"http://{tail}"
    try:
        checked = parse_address(address)
    except ForbiddenAddressError:
        return
    try:
        prepared = requests.Request("GET", address).prepare()
        with urllib3.PoolManager() as manager:
            pool = manager.connection_from_url(prepared.url or "")
    except (requests.RequestException, ValueError):
        return
    assert (pool.host or "").strip("[]") == checked.host
    assert urlsplit(prepared.url).hostname == checked.host
