# SPDX-License-Identifier: Apache-2.0
"""Asks web servers that the settings name, for single files.

Certificates, proxies and limits are those for registries. No login is sent: a server that needs one
can ask for a client's certificate (``certs.d``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

from podman_cvmfs.errors import NotInRegistry, RegistryError, printable
from podman_cvmfs.registry.addresses import is_loopback
from podman_cvmfs.registry.failures import StalledError, refused
from podman_cvmfs.registry.transport import Transport
from podman_cvmfs.util.web_address import shown_address

log = logging.getLogger(__name__)

#: "Not Modified" (RFC 9110, 15.4.5).
_UNCHANGED = 304
#: The server has no such file. Object stores say 403 to those who may not list their files.
_MISSING = (403, 404, 410)


@dataclass(frozen=True)
class Version:
    """What a server says about a file, to ask for a newer one (RFC 9110, 13.1)."""

    etag: str = ""
    modified: str = ""


@dataclass(frozen=True)
class WebFile:
    """A file as the server has it now."""

    data: bytes
    version: Version


class WebClient:
    """Fetches files; may be used from several threads at once. The limits are Transport's."""

    def __init__(self, timeout: float, retries: int, max_pause: float) -> None:
        self._transport = Transport(timeout, retries, max_pause)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def get(
        self, url: str, subject: str, limit: int, known: Version | None = None
    ) -> WebFile | None:
        """The file at ``url``, of at most ``limit`` bytes; None if ``known`` is its version.

        ``subject`` begins the messages of errors. Raises NotInRegistry, RegistryError,
        RegistryBusy, RegistryUnreachable.
        """
        headers = {}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        host, path = urlsplit(url).netloc, urlsplit(url).path
        response = self._transport.request("GET", url, subject, registry=host, headers=headers)
        try:
            for each in (*response.history, response):
                place = urlsplit(each.url)
                if place.scheme != "https" and not is_loopback(place.netloc):
                    raise RegistryError(f"{subject}: {printable(host)} sends us to an http address")
            if headers and response.status_code == _UNCHANGED:
                self._transport.answered(host, "", registry=host)
                return None
            if response.status_code in _MISSING:
                self._transport.answered(host, "", registry=host)
                status = response.status_code
                raise NotInRegistry(f"{subject}: {printable(host)} answered HTTP {status}")
            if response.status_code != 200:
                raise refused(subject, host, response.status_code)
            data = self._transport.body(response, subject, host, limit)
            self._transport.answered(host, "", registry=host)
        except StalledError as err:
            # A server whose files all come to a halt would cost its time for each of them.
            document = (subject, path)
            raise self._transport.timed_out(host, "", document, err, registry=host) from None
        finally:
            response.close()
        log.debug("fetched %s: %d bytes", shown_address(url), len(data))
        stated = response.headers
        return WebFile(data, Version(stated.get("ETag", ""), stated.get("Last-Modified", "")))
