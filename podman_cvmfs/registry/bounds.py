# SPDX-License-Identifier: Apache-2.0
"""Bounds to what a registry may make us do.

A registry is not trusted. It must not send us nearer than it is itself (``addresses`` says why). It
must not make us send credentials on. It must not fill our memory, which neither requests nor
urllib3 prevents.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from podman_cvmfs.registry.addresses import Distance, ForbiddenAddressError, Reach, parse_address
from podman_cvmfs.registry.connection import distance_of_host

#: A redirect's body that is worth reading is shorter, in bytes.
_BODY = 64 * 1024
#: To where a registry keeps its blobs it takes one or two.
_REDIRECTS = 5


def promised_length(response: requests.Response) -> int | None:
    """The announced length of the body in bytes; None if it is missing or malformed."""
    text = response.headers.get("Content-Length", "")
    # Longer numbers, and other scripts' digits, int() refuses.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def is_led_away(response: requests.Response) -> bool:
    """Whether redirects led to another host, or another scheme, than was asked."""
    asked = (response.history or [response])[0].url
    return urlsplit(asked)[:2] != urlsplit(response.url)[:2]


class _Body(urllib3.response.HTTPResponse):
    """A body that fails at a chunk of negative length: for -1 urllib3 (1.26, 2.x) and http.client
    read without end."""

    def _update_chunk_length(self) -> None:
        super()._update_chunk_length()
        if self.chunk_left is not None and self.chunk_left < 0:
            raise urllib3.exceptions.ProtocolError("a chunk of negative length")


class BoundedSession(requests.Session):
    """A session with limits: it follows only allowed redirects, and only a few. It takes no
    credentials from ~/.netrc, even after a redirect, and keeps no cookies. Its adapters obey
    ``reach``."""

    def __init__(self) -> None:
        super().__init__()
        self.reach = Reach()
        self.max_redirects = _REDIRECTS
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def ask(self, allowed: Distance, method: str, url: str, **kwargs: Any) -> requests.Response:
        """``request`` for a host that may be as near as ``allowed``. Raises ForbiddenAddressError
        besides."""
        self.reach.allowed = allowed
        return self.request(method, url, **kwargs)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send one request and follow redirects."""
        response = super().send(request, **kwargs)
        if type(response.raw) is urllib3.response.HTTPResponse:
            response.raw.__class__ = _Body  # neither library lets us make it one
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a response redirects to, if it does. Raises ForbiddenAddressError."""
        try:
            target: str | None = super().get_redirect_target(resp)
        except UnicodeError:
            resp.raw.close()
            raise ForbiddenAddressError("it sends us to an address that is not valid") from None
        if target is not None:
            # requests would read the body to its end, and decompress it. A short one is read, so
            # that the connection can be used again. Chunks come in whatever length they say.
            length = promised_length(resp)
            is_in_chunks = "Transfer-Encoding" in resp.headers
            if length is not None and length < _BODY and not is_in_chunks:
                try:
                    resp.raw.read(_BODY, decode_content=False)
                except urllib3.exceptions.TimeoutError:
                    resp.raw.close()
                    raise requests.ReadTimeout("a redirect doesn't come in time") from None
                except (urllib3.exceptions.HTTPError, OSError):
                    pass  # only the connection is lost
            resp.raw.close()
            resp._content = b""
            # Blanks around a header's value are none of its own (RFC 9110, 5.5).
            target = target.strip(" \t")
            parse_address(target, resp.url)
            # The adapter checks the address as it has become by then, and whom it connects to.
            self.reach.allowed = min(self.reach.allowed, distance_of_host(resp))
        return target

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Send credentials only to the host that they are for. Raises ForbiddenAddressError."""
        headers = prepared_request.headers
        old, new = response.request.url or "", prepared_request.url or ""
        is_elsewhere = self.should_strip_auth(old, new)  # type: ignore[no-untyped-call]
        if "Authorization" in headers and is_elsewhere:
            del headers["Authorization"]
        if prepared_request.body and is_elsewhere:
            # What we send is a refresh token. podman doesn't send it on, either.
            raise ForbiddenAddressError("it redirects a request that only it may get")
