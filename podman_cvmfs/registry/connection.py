# SPDX-License-Identifier: Apache-2.0
"""Connections that are checked before anything is sent, and whose answers come at a bearable pace.

A host's name may stand for another address when we connect than when it was checked (DNS
rebinding). So the peer's address is checked after connecting, before TLS begins. It is checked
again each time that the connection is used.

Behind a proxy the peer is the proxy. The administrator has chosen it, so it may be anywhere. It
looks up names itself, and its own rules say where it connects to. Here only the text of an address
is judged, and a name that stands for this machine or its link here is refused. Private addresses of
names are not: some sites' resolvers give one for every name. A registry behind a proxy counts as
elsewhere, unless its name is an IP address: by DNS it could claim to be inside.
"""

from __future__ import annotations

import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from podman_cvmfs.registry.addresses import (
    Distance,
    ForbiddenAddressError,
    Reach,
    distance_by_name,
    distance_of,
    looked_up,
    parse_address,
)
from podman_cvmfs.registry.pace import PacedResponse


class BoundedAdapter(HTTPAdapter):
    """Asks only hosts within ``reach``, and breaks off answers of servers and proxies that come too
    slowly.

    ``send`` raises ForbiddenAddressError besides.
    """

    def __init__(self, reach: Reach, **kwargs: Any) -> None:
        self._reach = reach
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _adapt(self.poolmanager, {"response_class": PacedResponse, "reach": self._reach}, _Checked)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _adapt(manager, {"response_class": PacedResponse})
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        if self._reach.allowed < Distance.HERE:
            host = parse_address(request.url or "").host
            self._reach.check(distance_by_name(host))
            is_direct = not select_proxy(request.url or "", kwargs.get("proxies"))
            if not is_direct and looked_up(host) == Distance.HERE:
                self._reach.check(Distance.HERE)
        self._reach.met = None
        return super().send(request, *args, **kwargs)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        response.distance = self._reach.met  # type: ignore[attr-defined]
        return response


def distance_of_host(response: requests.Response) -> Distance:
    """How near the host of this response is. The response must come from a BoundedAdapter."""
    met: Distance | None = response.distance  # type: ignore[attr-defined]
    if met is not None:
        return met
    try:
        return distance_by_name(parse_address(response.url).host)
    except ForbiddenAddressError:
        return Distance.ELSEWHERE


class _Checked:
    """A mixin for urllib3's classes of connections: checks the peer."""

    reach: Reach
    sock: Any
    _distance = Distance.HERE

    def _new_conn(self) -> Any:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        try:
            self._distance = distance_of(made.getpeername()[0])
            self.reach.meet(self._distance)
        except BaseException:
            made.close()
            raise
        return made

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        # Without a socket it connects later, by itself.
        if self.sock is not None:
            self.reach.meet(self._distance)
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


def _adapt(manager: Any, attributes: dict[str, Any], *bases: type) -> None:
    """Give connections ``attributes`` and ``bases``, whatever pools a manager has: those for SOCKS
    are of their own."""
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {
        scheme: _adapted(pool, attributes, bases) for scheme, pool in pools.items()
    }


def _adapted(pool: Any, attributes: dict[str, Any], bases: tuple[type, ...]) -> Any:
    if pool.ConnectionCls.response_class is PacedResponse:
        return pool
    connection = type("_Adapted", (*bases, pool.ConnectionCls), attributes)
    return type("_Adapted", (pool,), {"ConnectionCls": connection})
