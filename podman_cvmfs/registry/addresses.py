# SPDX-License-Identifier: Apache-2.0
"""Checks the addresses that a registry sends us to.

A registry is not trusted. It sends us on by a redirect, or to its token service. It must not send
us to services that only this machine or this site can reach: it would get their answer as its
token. So a host may send us as near as it is itself, and no nearer. A host that an image name or
the administrator names may be anywhere. Only ``looked_up`` asks a resolver.

Ranges: the special-purpose address registries of IANA (RFC 6890), and the addresses at which clouds
give their machines secrets.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Union
from urllib.parse import urljoin, urlsplit

from urllib3.util import parse_url

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
#: A name or an IPv4 address, or an IPv6 address.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_HINT = (
    "if the registry itself is in your private network, list it in NO_PROXY, "
    "or give its private address as its location in registries.conf"
)


class ForbiddenAddressError(ValueError):
    """A registry sends us to a place where it must not; the text says where, ``hint`` what to do.

    It is no OSError and no error of requests or urllib3, because those libraries would wrap it or
    try again.
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


class Distance(IntEnum):
    """How near a host is; more is nearer."""

    ELSEWHERE = 0
    #: In a private network.
    SITE = 1
    #: On this machine or its link, or a cloud's service for this machine alone.
    HERE = 2


_NETWORKS = {
    Distance.HERE: (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/3"),
        *("168.63.129.16", "100.100.100.200"),  # Azure, Alibaba
        *("::", "::1", "fe80::/10", "ff00::/8"),
        *("fd00:ec2::/32", "fd20:ce::/32", "fd00:42::/32"),  # AWS, Google, Scaleway
    ),
    Distance.SITE: (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"),
        *("fc00::/7", "fec0::/10", "64:ff9b:1::/48"),
    ),
}
_RANGES = tuple(
    (ipaddress.ip_network(text), distance) for distance, each in _NETWORKS.items() for text in each
)
#: IPv6 addresses that end in an IPv4 address: compatible, mapped, translated, NAT64.
_ENDING_IN_IPV4 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)


@functools.lru_cache(maxsize=4096)
def distance_of(address: str) -> Distance:
    """How near the IP address is, as the system writes it (``fe80::1%eth0``). Raises ValueError.

    Where an IPv6 address holds IPv4 addresses, the nearest of all counts.
    """
    known = ipaddress.ip_address(address.partition("%")[0])
    return max(_distance(each) for each in (known, *_inner(known)))


def _distance(address: _Address) -> Distance:
    # An IPv4 address is in no IPv6 network, and the other way round.
    return next((found for net, found in _RANGES if address in net), Distance.ELSEWHERE)


def _inner(address: _Address) -> Iterator[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    # "::" and "::1" are addresses of their own.
    if int(address) > 1 and any(address in network for network in _ENDING_IN_IPV4):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def distance_by_name(host: str) -> Distance:
    """How near ``host`` is by what it is called, an IP address in any form or a name of this
    machine. Nothing is looked up: for another name that is ELSEWHERE."""
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return Distance.HERE
    # The C library knows more forms than ipaddress: "127.1", "0x7f.1", "2130706433".
    return _nearest(bare, socket.AI_NUMERICHOST)


@functools.lru_cache(maxsize=1024)
def looked_up(host: str) -> Distance:
    """How near the nearest address of the name ``host`` is; ELSEWHERE if it has none."""
    return _nearest(host.strip("[]"), 0)


def _nearest(host: str, flags: int) -> Distance:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
        return max(distance_of(str(address[0])) for *_, address in found)
    except (OSError, ValueError):
        return Distance.ELSEWHERE


@dataclass(frozen=True)
class WebAddress:
    """The parts of a URL that say whom to ask. ``host`` is in lower case, an IPv6 address without
    its brackets; ``authority`` is host and port as they were written."""

    scheme: str
    host: str
    authority: str


def parse_address(text: str, base: str = "") -> WebAddress:
    """Take the URL ``text``, seen from the URL ``base``, apart as the connection will be made.
    Raises ForbiddenAddressError for one that is not plain.

    requests connects by urllib3's parser, and since 2.32 by that of urllib.parse after it. A URL
    that the two read differently is refused. Backslashes, user parts, control characters, blanks
    and other scripts are refused as well, because parsers differ on them. A host consists of the
    characters of names and IP addresses.
    """
    try:
        is_plain = re.fullmatch(r"[!-\[\]-~]*", text) is not None
        full = urljoin(base, text)
        seen, split = parse_url(full), urlsplit(full)
        host = (seen.host or "").strip("[]").lower()
        is_same = (seen.scheme, host, seen.port) == (split.scheme, split.hostname, split.port)
    except ValueError:
        raise ForbiddenAddressError("it sends us to an address that is not valid") from None
    if split.scheme not in ("http", "https") or not host:
        raise ForbiddenAddressError("it sends us to something that is not an address of the web")
    if not (is_plain and is_same and _HOST.fullmatch(host)) or "@" in split.netloc:
        raise ForbiddenAddressError("it sends us to an address that is not valid")
    return WebAddress(split.scheme, host, split.netloc)


def is_loopback(host: str) -> bool:
    """Whether ``host`` (``name[:port]``, ``address[:port]`` or ``[v6][:port]``) is this machine."""
    try:
        bare = parse_address(f"http://{host}").host
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def check_distance(distance: Distance, allowed: Distance) -> None:
    """Raise ForbiddenAddressError if ``distance`` is nearer than ``allowed``."""
    if distance <= allowed:
        return
    if distance == Distance.HERE:
        raise ForbiddenAddressError("it sends us to this machine or its link")
    raise ForbiddenAddressError("it sends us into a private network", _HINT)


class Reach:
    """How near hosts may be that are asked now, and how near the last one was.

    It belongs to a session, and like that to one thread.
    """

    def __init__(self) -> None:
        self.allowed = Distance.HERE
        #: None behind a proxy.
        self.met: Distance | None = None

    def check(self, distance: Distance) -> None:
        """Raise ForbiddenAddressError if a host so near may not be asked."""
        check_distance(distance, self.allowed)

    def meet(self, distance: Distance) -> None:
        """Note that a host so near has been connected to. Raises as ``check`` does."""
        self.met = distance
        self.check(distance)
