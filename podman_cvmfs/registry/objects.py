# SPDX-License-Identifier: Apache-2.0
"""Fetches a repository's objects from the server and through the proxy of its CernVM-FS client.

Server and proxy are the client's settings, made by an administrator: both may be on this machine or
in the site's network. Nothing else decides where we connect to, for redirects are not followed. The
caller checks what comes by its hash, and no credentials are sent.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from podman_cvmfs.errors import RegistryError, printable
from podman_cvmfs.registry.transport import Transport, Way

#: In seconds, for connecting and for each wait: who waits can do without the object.
_TIMEOUT = 10.0


class ObjectClient:
    """Fetches objects; may be used from several threads at once. A server or proxy that can't be
    reached isn't asked again."""

    def __init__(self, timeout: float = _TIMEOUT) -> None:
        self._transport = Transport(timeout, retries=0, max_pause=0.0)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def get(self, url: str, proxy: str | None, subject: str, limit: int) -> bytes:
        """The object at ``url``, of at most ``limit`` bytes, not checked.

        ``proxy`` is the address of the client's proxy, None if it has none. ``subject`` begins the
        messages of errors. Raises RegistryError, RegistryUnreachable.
        """
        host = urlsplit(url).netloc
        response = self._transport.request("GET", url, subject, registry=host, way=Way(proxy))
        with response:
            if response.status_code != 200:
                status = response.status_code
                raise RegistryError(f"{subject}: {printable(host)} answered HTTP {status}")
            return self._transport.body(response, subject, host, limit)
