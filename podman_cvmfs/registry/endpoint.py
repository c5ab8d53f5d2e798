# SPDX-License-Identifier: Apache-2.0
"""Asks one endpoint, a mirror or the registry itself: logs in, and continues broken transfers.

Protocol: OCI distribution-spec v1.1 ("Pulling manifests", "Pulling blobs").
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

import requests
import urllib3

from podman_cvmfs.errors import NotInRegistry, RegistryError, printable
from podman_cvmfs.names.reference import DOCKER_HUB, ImageName
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.auth import Authenticator, Door
from podman_cvmfs.registry.bounds import is_led_away, promised_length
from podman_cvmfs.registry.connection import distance_of_host
from podman_cvmfs.registry.failures import (
    TIMEOUTS,
    BrokenOffError,
    StalledError,
    refused,
)
from podman_cvmfs.registry.patience import pause
from podman_cvmfs.registry.registries_conf import Endpoint
from podman_cvmfs.registry.transport import CHUNK, Transport

log = logging.getLogger(__name__)

_DOCKER_HUB_HOST = "registry-1.docker.io"
#: How often a transfer is begun, at most, if it breaks off.
_TRANSFERS = 3
#: How often one document's transfer may come to a halt until it is given up.
_STALLS = 2


class EndpointClient:
    """Asks ``endpoint`` for parts of ``name``, which begins the messages of errors.

    With ``insecure`` its certificate isn't checked. Cheap to make: ``transport`` and
    ``authenticator`` keep connections and logins.
    """

    def __init__(
        self,
        transport: Transport,
        authenticator: Authenticator,
        endpoint: Endpoint,
        insecure: bool,
        name: ImageName,
    ) -> None:
        self._transport = transport
        self._authenticator = authenticator
        self._host = host_of(endpoint)
        self._registry = endpoint.name.registry
        self._repository = endpoint.name.repository
        self._insecure = insecure
        self._subject = str(name)

    def document(
        self,
        path: str,
        headers: dict[str, str],
        what: str,
        limit: int = documents.MAX_DOCUMENT,
    ) -> tuple[bytes, Mapping[str, str]]:
        """A short answer as a whole, of at most ``limit`` bytes, and its headers.

        ``path`` is below the repository; ``what`` says what is there. Raises RegistryError.
        """
        stalls = 0
        for attempt in range(1, _TRANSFERS + 1):
            try:
                with self._get(path, headers, what) as response:
                    data = self._body(response, limit)
            except BrokenOffError as err:
                if isinstance(err, StalledError):
                    stalls += 1
                    if stalls == _STALLS:
                        raise self._timed_out(path, err) from None
                if attempt == _TRANSFERS:
                    raise
                pause(0.5 * attempt)
            else:
                self._answered(path)
                return data, response.headers
        raise AssertionError("unreachable")

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a blob in pieces, not checked. Raises RegistryError."""
        name = self._subject
        done = 0
        path = f"blobs/{digest}"
        for attempt in range(1, _TRANSFERS + 1):
            headers = {"Range": f"bytes={done}-"} if done else {}
            with self._get(path, headers, "blob") as response:
                if done and response.status_code != 206:
                    break
                expected = promised_length(response)
                goal = None if expected is None else done + expected
                try:
                    for chunk in response.raw.stream(CHUNK, decode_content=False):
                        done += len(chunk)
                        yield chunk
                except TIMEOUTS:
                    log.debug("%s: blob timed out after %d bytes", name, done)
                    if attempt == _TRANSFERS:
                        error = StalledError(f"{name}: transfer of {digest} timed out")
                        raise self._timed_out(path, error) from None
                except (urllib3.exceptions.HTTPError, OSError, ValueError):
                    log.debug("%s: blob broke off after %d bytes", name, done)
                    if attempt == _TRANSFERS:
                        raise RegistryError(f"{name}: transfer of {digest} broke off") from None
                else:
                    if goal is None or done >= goal:
                        self._answered(path)
                        return
            pause(0.5 * attempt)
        raise RegistryError(f"{name}: transfer of {digest} broke off after {done} bytes")

    def _get(self, path: str, headers: dict[str, str], what: str) -> requests.Response:
        subject = self._subject
        authorization = None
        is_renewed = False
        door = Door(self._host, self._registry, self._repository, False, self._insecure)
        while True:
            if not is_renewed:
                authorization = self._authenticator.authorization(door, subject)
            response = self._transport.get(
                self._host,
                f"/v2/{self._repository}/{path}",
                subject,
                registry=self._registry,
                insecure=self._insecure,
                headers=headers,
                authorization=authorization,
            )
            # Whom the registry redirects to may refuse, but not say where passwords go.
            if response.status_code != 401 or is_renewed or is_led_away(response):
                break
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            door = replace(
                door,
                is_encrypted=response.url.startswith("https:"),
                distance=distance_of_host(response),
            )
            authorization = self._authenticator.renew(door, challenge, authorization, subject)
            is_renewed = True
        if response.status_code in (200, 206):
            return response
        with response:
            if response.status_code in (401, 403, 404):
                self._answered(path)
            raise self._refusal(response, what)

    def _timed_out(self, path: str, error: StalledError) -> RegistryError:
        return self._transport.timed_out(
            self._host,
            path.partition("/")[0],
            (self._repository, path),
            error,
            registry=self._registry,
            insecure=self._insecure,
        )

    def _answered(self, path: str) -> None:
        self._transport.answered(
            self._host,
            path.partition("/")[0],
            registry=self._registry,
            insecure=self._insecure,
        )

    def _body(self, response: requests.Response, limit: int) -> bytes:
        return self._transport.body(response, self._subject, self._host, limit)

    def _refusal(self, response: requests.Response, what: str) -> RegistryError:
        name, host, status = self._subject, self._host, response.status_code
        if status in (401, 403):
            return RegistryError(
                f"{name}: {host} denies access (HTTP {status})",
                "the image doesn't exist, or needs a login",
            )
        if status == 404:
            return NotInRegistry(f"{name}: no such {what} at {host} (HTTP 404)")
        try:
            text = self._body(response, 4096).decode("utf-8", "replace")
            log.debug("%s: HTTP %d: %s", host, status, printable(text)[:200])
        except StalledError:
            raise  # each image would wait for it
        except RegistryError:
            pass
        return refused(name, host, status)


def host_of(endpoint: Endpoint) -> str:
    """The host and port to ask for ``endpoint``: Docker Hub's differs from its name."""
    return _DOCKER_HUB_HOST if endpoint.name.registry == DOCKER_HUB else endpoint.name.registry
