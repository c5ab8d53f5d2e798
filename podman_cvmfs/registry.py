# SPDX-License-Identifier: Apache-2.0
"""Asks a container registry for manifests and blobs. Nothing else here does HTTP.

Protocol: OCI distribution-spec v1.1 ("Pulling manifests", "Pulling blobs"); tokens as in the
Docker registry's token authentication specification (anonymous ones only so far).
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from podman_cvmfs import __version__, oci
from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.oci import Digest
from podman_cvmfs.reference import DOCKER_HUB_ALIASES, ImageName

log = logging.getLogger(__name__)

_DOCKER_HUB_HOST = "registry-1.docker.io"
_MANIFEST_TYPES = (oci.OCI_MANIFEST, oci.OCI_INDEX, oci.DOCKER_MANIFEST, oci.DOCKER_LIST)
_CHUNK = 256 * 1024
_ATTEMPTS = 3
#: A registry that asks for a longer pause than this is taken to have refused.
_LONGEST_PAUSE = 10.0
_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
#: urllib3 2 has an error of its own for it; urllib3 1 passes on what the resolver says.
_UNKNOWN_HOST = ("NameResolutionError", "Name or service not known", "name resolution")
_CHALLENGE = re.compile(r'([a-zA-Z]+)=(?:"([^"]*)"|([^\s,"]+))')


class RegistryUnreachable(RegistryError):  # noqa: N818 - it says what is so, like its base
    """The registry's host can't be talked to at all, so asking it again soon is no use."""


class _Bearer(AuthBase):
    """Sends a token, or nothing: giving it always keeps requests from consulting ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class RegistryClient:
    """Fetches manifests and blobs; may be used from several threads at once.

    ``timeout`` is in seconds, for connecting and for each wait for data. With ``insecure`` every
    registry is spoken to in plain HTTP; without, only those on loopback addresses are.
    """

    def __init__(self, *, timeout: float = 30.0, insecure: bool = False) -> None:
        self._timeout = timeout
        self._insecure = insecure
        self._sessions_lock = threading.Lock()
        self._tokens_lock = threading.Lock()
        #: (host, repository) -> token. The lock is held while one is fetched: one asks for all.
        self._tokens: dict[tuple[str, str], str] = {}
        self._sessions: list[requests.Session] = []
        self._local = threading.local()

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with self._sessions_lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()
        self._local = threading.local()

    def manifest(self, name: ImageName, reference: str | None = None) -> tuple[bytes, str]:
        """Return the manifest or index of ``name``, byte for byte, and its media type.

        ``reference`` is a tag or digest, by default the name's digest, else its tag; bytes asked
        for by digest are checked against it. Raises RegistryError.
        """
        reference = reference or (str(name.digest) if name.digest else name.tag) or "latest"
        accept = {"Accept": ", ".join(_MANIFEST_TYPES)}
        with self._get(name, f"manifests/{reference}", accept, "image") as response:
            data = self._body(response, name, oci.MAX_DOCUMENT)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if reference.startswith("sha256:"):
            self._check(name, Digest.parse(reference), data)
        if media_type not in _MANIFEST_TYPES:
            media_type = _stated_type(data) or media_type
        return data, media_type

    def blob(self, name: ImageName, digest: Digest, limit: int = oci.MAX_DOCUMENT) -> bytes:
        """Return the blob ``digest`` of ``name``'s repository, at most ``limit`` bytes, checked.

        Raises RegistryError.
        """
        with self._get(name, f"blobs/{digest}", {}, "blob") as response:
            data = self._body(response, name, limit)
        self._check(name, digest, data)
        return data

    def blob_stream(self, name: ImageName, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a blob in pieces; the caller must check size and digest.

        A connection that breaks off is taken up again where it broke, a few times. Raises
        RegistryError.
        """
        done = 0
        for attempt in range(1, _ATTEMPTS + 1):
            headers = {"Range": f"bytes={done}-"} if done else {}
            with self._get(name, f"blobs/{digest}", headers, "blob") as response:
                if done and response.status_code != 206:
                    break
                expected = response.headers.get("Content-Length", "")
                goal = done + int(expected) if expected.isdigit() else None
                try:
                    for chunk in response.raw.stream(_CHUNK, decode_content=False):
                        done += len(chunk)
                        yield chunk
                except (urllib3.exceptions.HTTPError, OSError) as err:
                    log.debug("%s: blob broke off after %d bytes: %s", name, done, err)
                    cause = "timed out" if isinstance(err, _TIMEOUTS) else "broke off"
                    if attempt == _ATTEMPTS:
                        raise RegistryError(f"{name}: transfer of {digest} {cause}") from None
                else:
                    if goal is None or done >= goal:
                        return
            _pause(0.5 * attempt)
        raise RegistryError(f"{name}: transfer of {digest} broke off after {done} bytes")

    # ------------------------------------------------------------------ one request

    def _get(
        self, name: ImageName, path: str, headers: dict[str, str], what: str
    ) -> requests.Response:
        host, repository = _location(name)
        scheme = "http" if self._insecure or is_loopback(host) else "https"
        url = f"{scheme}://{host}/v2/{repository}/{path}"
        refreshed = False
        while True:
            token = self._tokens.get((host, repository))
            response = self._request(url, headers, host, name, token)
            if response.status_code != 401 or refreshed:
                break
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            self._renew_token(name, host, repository, challenge, token)
            refreshed = True
        if response.status_code in (200, 206):
            return response
        with response:
            raise self._refusal(response, name, host, what)

    def _request(
        self,
        url: str,
        headers: dict[str, str],
        host: str,
        name: ImageName,
        token: str | None,
        parameters: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send one GET, a few times if the trouble may pass; any status is returned."""
        # Bytes are wanted as they are stored, not compressed once more on the way.
        fixed = {"Accept-Encoding": "identity", "User-Agent": f"podman-cvmfs/{__version__}"}
        # A proxy can't reach our own loopback.
        proxies = {"http": None, "https": None} if is_loopback(host) else None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = self._session().get(
                    url,
                    headers={**fixed, **headers},
                    params=parameters,
                    auth=_Bearer(token),
                    timeout=self._timeout,
                    stream=True,
                    proxies=proxies,  # type: ignore[arg-type]
                )
            except requests.RequestException as err:
                if attempt < _ATTEMPTS and _may_pass(err):
                    _pause(0.5 * attempt)
                    continue
                raise _failure(err, name, host) from None
            pause = _asked_pause(response, attempt)
            if pause is None or attempt == _ATTEMPTS:
                return response
            response.close()
            _pause(pause)
        raise AssertionError("unreachable")

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            self._local.session = session
            with self._sessions_lock:
                self._sessions.append(session)
        return session

    # ------------------------------------------------------------------ authentication

    def _renew_token(
        self, name: ImageName, host: str, repository: str, challenge: str, rejected: str | None
    ) -> None:
        """Get an anonymous token where ``challenge`` says, unless another thread just did."""
        with self._tokens_lock:
            if self._tokens.get((host, repository)) != rejected:
                return
            scheme, _, rest = challenge.partition(" ")
            values = {key.lower(): a or b for key, a, b in _CHALLENGE.findall(rest)}
            realm = values.get("realm", "")
            if scheme.lower() != "bearer" or urlsplit(realm).scheme not in ("http", "https"):
                raise RegistryError(
                    f"{name}: {host} wants a login", "only anonymous access is supported so far"
                )
            parameters = {"scope": values.get("scope") or f"repository:{repository}:pull"}
            if "service" in values:
                parameters["service"] = values["service"]
            realm_host = urlsplit(realm).netloc
            with self._request(realm, {}, realm_host, name, None, parameters) as response:
                if response.status_code != 200:
                    raise self._refusal(response, name, printable(realm_host), "image")
                self._tokens[host, repository] = _token(self._body(response, name, 1 << 20), name)

    # ------------------------------------------------------------------ answers

    def _body(self, response: requests.Response, name: ImageName, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise RegistryError(f"{name}: the registry's answer exceeds {limit} bytes")
        except (urllib3.exceptions.HTTPError, OSError) as err:
            raise _failure(err, name, _location(name)[0]) from None
        return b"".join(parts)

    @staticmethod
    def _check(name: ImageName, digest: Digest, data: bytes) -> None:
        if Digest.of(data) != digest:
            raise RegistryError(f"{name}: the registry sent wrong data for {digest}")

    def _refusal(
        self, response: requests.Response, name: ImageName, host: str, what: str
    ) -> RegistryError:
        status = response.status_code
        if status in (401, 403):
            return RegistryError(
                f"{name}: {host} denies access (HTTP {status})",
                "the image doesn't exist, or needs a login",
            )
        if status == 404:
            return RegistryError(f"{name}: no such {what} at {host} (HTTP 404)")
        if status == 429:
            return RegistryError(f"{name}: {host} limits the rate of requests (HTTP 429)")
        with contextlib.suppress(RegistryError):
            text = printable(self._body(response, name, 4096).decode("utf-8", "replace"))[:200]
            log.debug("%s: HTTP %d: %s", host, status, text)
        return RegistryError(f"{name}: {host} answered HTTP {status}")


def is_loopback(host: str) -> bool:
    """Whether ``host`` (``name[:port]``, ``address[:port]`` or ``[v6][:port]``) is this machine."""
    try:
        bare = urlsplit(f"//{host}").hostname or ""
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _location(name: ImageName) -> tuple[str, str]:
    """The host to ask for ``name`` and the repository to ask it for."""
    if name.registry not in DOCKER_HUB_ALIASES:
        return name.registry, name.repository
    repository = name.repository if "/" in name.repository else f"library/{name.repository}"
    return _DOCKER_HUB_HOST, repository


def _stated_type(data: bytes) -> str:
    try:
        document = oci.parse_json(data, "manifest")
    except InputError:
        return ""
    stated = document.get("mediaType") if isinstance(document, dict) else None
    return stated if isinstance(stated, str) else ""


def _token(data: bytes, name: ImageName) -> str:
    try:
        document = oci.parse_json(data, "token")
    except InputError:
        document = None
    if isinstance(document, dict):
        token = document.get("token") or document.get("access_token")
        # Only what can stand in a header: a line break in it would forge another one.
        if isinstance(token, str) and token.isascii() and token.isprintable():
            return token
    raise RegistryError(f"{name}: the registry's token service gave no token")


def _asked_pause(response: requests.Response, attempt: int) -> float | None:
    """How many seconds to wait before asking again; None to take the answer as it is."""
    if response.status_code != 429 and response.status_code < 500:
        return None
    asked = response.headers.get("Retry-After", "")
    seconds = float(asked) if asked.isdigit() else 0.5 * attempt
    return seconds if seconds <= _LONGEST_PAUSE else None


def _may_pass(err: requests.RequestException) -> bool:
    """Whether a failed request is worth repeating: a connection that broke, not one refused."""
    if isinstance(err, (requests.exceptions.SSLError, requests.exceptions.ProxyError)):
        return False
    if isinstance(err, requests.Timeout) or "NewConnectionError" in repr(err):
        return False
    return isinstance(err, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError))


def _failure(err: Exception, name: ImageName, host: str) -> RegistryError:
    """Put a failed request into words. The exception's own text may hold a URL: not used."""
    text = str(err)
    if isinstance(err, requests.exceptions.SSLError):
        cause = "its TLS certificate or connection is not acceptable"
    elif isinstance(err, requests.exceptions.ProxyError):
        cause = "the proxy can't be reached"
    elif isinstance(err, _TIMEOUTS):
        cause = "it doesn't answer in time"
    elif "Connection refused" in text:
        cause = "connection refused"
    elif any(sign in text for sign in _UNKNOWN_HOST):
        cause = "no such host"
    elif isinstance(err, (requests.ConnectionError, urllib3.exceptions.HTTPError, OSError)) and (
        not isinstance(err, requests.RequestException) or isinstance(err, requests.ConnectionError)
    ):
        cause = "the connection failed"
    else:
        # A redirect to another scheme, too many redirects, an address that is none.
        return RegistryError(f"{name}: bad answer from {host}: {type(err).__name__}")
    return RegistryUnreachable(f"{name}: can't reach the registry {host}: {cause}")


def _pause(seconds: float) -> None:
    time.sleep(seconds)
