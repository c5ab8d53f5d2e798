# SPDX-License-Identifier: Apache-2.0
"""HTTP for registries and web servers, with a site's own certificates, proxies, and limits.

The only module that uses the network. Proxies are those of the environment (``HTTPS_PROXY``,
``NO_PROXY``), including SOCKS proxies if PySocks is installed. Our own loopback is asked without a
proxy, because no proxy can reach it.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from podman_cvmfs import __version__
from podman_cvmfs.errors import RegistryError, RegistryUnreachable, printable
from podman_cvmfs.registry.addresses import Distance, Reach, is_loopback
from podman_cvmfs.registry.bounds import BoundedSession, promised_length
from podman_cvmfs.registry.certificates import Certificates, find_certificates, tls_context
from podman_cvmfs.registry.connection import BoundedAdapter
from podman_cvmfs.registry.failures import (
    TIMEOUTS,
    BrokenOffError,
    StalledError,
    failure,
    is_late,
    may_pass,
    refused,
)
from podman_cvmfs.registry.patience import Patience

log = logging.getLogger(__name__)

CHUNK = 256 * 1024


@dataclass(frozen=True)
class Way:
    """The way to a server that somebody else has found; it has no redirects."""

    #: The address of a proxy; None: there is none.
    proxy: str | None


class _WithoutQueries(logging.Filter):
    """Removes the query from addresses that urllib3 logs, because it may hold signatures."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                each.partition("?")[0] if isinstance(each, str) else each for each in record.args
            )
        return True


for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_WithoutQueries())


class _Authorization(AuthBase):
    """Sends a header or no header. It is always passed, so that requests doesn't read ~/.netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class _Adapter(BoundedAdapter):
    """Uses TLS with our own context, and alone decides whether certificates are checked: urllib3
    would change a shared context because of one request."""

    def __init__(self, reach: Reach, context: ssl.SSLContext, verify: bool) -> None:
        self._context = context
        self._verify = verify
        super().__init__(reach, pool_connections=4, pool_maxsize=4)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        if not (self._verify and isinstance(kwargs.get("verify"), str)):
            kwargs["verify"] = self._verify
        return super().send(request, *args, **kwargs)


@dataclass(frozen=True)
class _Trust:
    """How the certificates of a registry, its token service and its blob store are checked; with
    ``insecure`` not at all."""

    certificates: Certificates | None
    insecure: bool


class Transport:
    """Sends requests; may be used from several threads at once.

    ``timeout`` is in seconds, for connecting and for each wait for data; for an answer that hardly
    comes, ``pace`` says how long in all. A failed request that may succeed later is repeated
    ``retries`` times. If a registry asks for a pause of more than ``max_pause`` seconds, this
    counts as a refusal, and the registry isn't asked again for that long.
    """

    def __init__(self, timeout: float, retries: int, max_pause: float) -> None:
        self._timeout = timeout
        self._patience = Patience(retries + 1, max_pause)
        self._lock = threading.Lock()
        self._sessions: list[requests.Session] = []
        self._local = threading.local()
        self._contexts: dict[_Trust, ssl.SSLContext] = {}
        self._schemes: dict[tuple[str, _Trust], tuple[str, ...]] = {}

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()
        self._local = threading.local()

    def get(
        self,
        host: str,
        path: str,
        subject: str,
        *,
        registry: str,
        insecure: bool = False,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> requests.Response:
        """Send a GET for ``path`` to ``host``, by the scheme that it speaks; else as ``request``.

        Raises RegistryError, RegistryBusy, RegistryUnreachable.
        """
        trust = _trust(registry, insecure)
        schemes = self._schemes_of(host, trust)
        for scheme in schemes:
            try:
                response = self.request(
                    "GET",
                    f"{scheme}://{host}{path}",
                    subject,
                    registry=registry,
                    insecure=insecure,
                    headers=headers,
                    authorization=authorization,
                    kind=path.rpartition("/")[0].rpartition("/")[2],
                    is_last=scheme == schemes[-1],
                )
            except RegistryUnreachable:
                if scheme == schemes[-1]:
                    raise
            else:
                self._schemes[host, trust] = (scheme,)
                return response
        raise AssertionError("unreachable")

    def request(
        self,
        method: str,
        url: str,
        subject: str,
        *,
        registry: str,
        insecure: bool = False,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        parameters: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        allowed: Distance = Distance.HERE,
        kind: str = "",
        is_last: bool = True,
        way: Way | None = None,
    ) -> requests.Response:
        """Send one request, several times if the failure may be temporary; any status is an answer.

        ``subject`` begins the messages of errors. ``registry`` is the one on whose behalf we ask:
        as in containers/image, its certificates, and whether it is ``insecure``, count for its
        token service and the hosts it redirects to, too, and theirs don't. ``allowed`` is how near
        the host may be: by default anywhere. ``kind`` is the kind of request that a registry
        limits: it counts manifests more than blobs. ``way`` replaces the proxies of the
        environment, and redirects then are answers. Unless ``is_last``, the caller can try another
        way, and a failure doesn't mark the host as unreachable. Raises RegistryError,
        RegistryUnreachable.
        """
        host, path = urlsplit(url).netloc, urlsplit(url).path
        trust = _trust(registry, insecure)
        # Who isn't trusted on one registry's behalf may be on another's.
        patience, whom = self._patience, (host, trust)
        patience.check(whom, kind, subject)
        patience.hold_back(whom, kind)
        # Bytes are wanted as they are stored, not compressed once more on the way.
        fixed = {"Accept-Encoding": "identity", "User-Agent": f"podman-cvmfs/{__version__}"}
        session = self._session(trust)
        for attempt in range(1, patience.attempts + 1):
            try:
                response = session.ask(
                    allowed,
                    method,
                    url,
                    headers={**fixed, **(headers or {})},
                    params=parameters,
                    data=form,
                    auth=_Authorization(authorization),
                    timeout=self._timeout,
                    stream=True,
                    proxies=_proxies(host, way),
                    allow_redirects=way is None,
                )
            except (requests.RequestException, ValueError) as err:
                if attempt < patience.attempts and may_pass(err):
                    patience.back_off(attempt)
                    continue
                error = failure(err, subject, host)
                if isinstance(error, RegistryUnreachable) and is_last:
                    if is_late(err):
                        error = patience.timed_out(whom, kind, (subject, path), error)
                    else:
                        patience.unreachable(whom, error)
                raise error from None
            status, asked = response.status_code, response.headers.get("Retry-After", "")
            refusal = partial(refused, subject, host, status)
            if not patience.may_ask_again(whom, kind, attempt, status, asked, refusal):
                return response
            response.close()
        raise AssertionError("unreachable")

    def body(self, response: requests.Response, subject: str, host: str, limit: int) -> bytes:
        """The body of ``response``, at most ``limit`` bytes. Raises RegistryError; BrokenOffError
        if it ends too early, StalledError if it comes too slowly."""
        parts: list[bytes] = []
        size = 0
        try:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise RegistryError(f"{subject}: the answer exceeds {limit} bytes")
        except TIMEOUTS:
            text = f"{subject}: the answer of {printable(host)} doesn't come in time"
            raise StalledError(text) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            raise BrokenOffError(f"{subject}: the answer of {printable(host)} broke off") from None
        # urllib3 1 takes a connection that breaks for the end of the body.
        if promised_length(response) not in (None, size):
            raise BrokenOffError(f"{subject}: the answer of {printable(host)} broke off")
        return b"".join(parts)

    def timed_out(
        self,
        host: str,
        kind: str,
        document: Hashable,
        error: RegistryError,
        *,
        registry: str,
        insecure: bool = False,
    ) -> RegistryError:
        """The error if the answer with ``document`` stalls each time: RegistryBusy, or
        RegistryUnreachable if others stalled before it. Then ``host`` isn't asked for a while."""
        whom = (host, _trust(registry, insecure))
        return self._patience.timed_out(whom, kind, document, error)

    def answered(self, host: str, kind: str, *, registry: str, insecure: bool = False) -> None:
        """Note that ``host`` has given a complete answer of this ``kind``."""
        self._patience.answered((host, _trust(registry, insecure)), kind)

    # ------------------------------------------------------------------ hosts

    def _schemes_of(self, host: str, trust: _Trust) -> tuple[str, ...]:
        """The schemes to try: podman's rule, except that a registry on this machine is asked in
        plain HTTP unless there are certificates for it."""
        known = self._schemes.get((host, trust))
        if known is not None:
            return known
        if trust.insecure:
            return ("https", "http")
        if is_loopback(host) and trust.certificates is None:
            return ("http",)
        return ("https",)

    def _session(self, trust: _Trust) -> BoundedSession:
        """This thread's session for hosts that are trusted in this way."""
        sessions: dict[_Trust, BoundedSession] = self._local.__dict__.setdefault("sessions", {})
        if trust not in sessions:
            session = BoundedSession()
            session.mount("http://", BoundedAdapter(session.reach))
            adapter = _Adapter(session.reach, self._context(trust), not trust.insecure)
            session.mount("https://", adapter)
            sessions[trust] = session
            with self._lock:
                self._sessions.append(session)
        return sessions[trust]

    def _context(self, trust: _Trust) -> ssl.SSLContext:
        with self._lock:
            if trust not in self._contexts:
                if trust.insecure:
                    # The administrator has said so; no need to be told at each request.
                    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                context = tls_context(trust.certificates, not trust.insecure)
                if getattr(urllib3, "__version__", "").startswith("1."):
                    # It compares the names itself, and without this can't reach an address.
                    context.check_hostname = False
                self._contexts[trust] = context
            return self._contexts[trust]


def _proxies(host: str, way: Way | None) -> dict[str, str | None] | None:
    """The proxies to use, by scheme; None for those of the environment."""
    if way is not None:
        return {"http": way.proxy, "https": way.proxy}
    return {"http": None, "https": None} if is_loopback(host) else None


def _trust(registry: str, insecure: bool) -> _Trust:
    return _Trust(find_certificates(registry), insecure)
