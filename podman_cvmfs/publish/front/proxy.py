# SPDX-License-Identifier: Apache-2.0
"""The HTTP front: passes all requests on to the registry, and waits where a tag is pushed.

Paths and errors are those of the OCI distribution specification 1.1 (sections "Push", "Errors").
The registry behind it keeps blobs and manifests, and decides who may do what: logins are passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName, check_parts
from podman_cvmfs.publish.front.batches import Batches
from podman_cvmfs.publish.front.events import MAX_EVENTS, pushed

log = logging.getLogger(__name__)

#: A manifest by its tag: a digest has a colon.
_MANIFEST = re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<tag>[^/:]+)")
#: As registries bound it, in bytes.
_MAX_MANIFEST = 4 << 20
_CHUNK = 1 << 16
#: RFC 9110, 7.6.1: they are between two neighbours only.
_HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
#: Seconds until the registry is given up: to connect, and between two reads of an answer.
_CONNECT, _READ = 30, 300


@dataclass(frozen=True)
class Front:
    """What the front needs to know. ``name`` is what users call it: host, or host and port.

    ``upstream`` is the address of the registry. Notifications need ``token``; without one they are
    refused.
    """

    name: str
    upstream: str
    batches: Batches
    token: str | None = None


def runner(front: Front) -> web.AppRunner:
    """The front, to be served at an address by aiohttp."""
    # What is passed on must be as long as its Content-Length says: the registry would take the rest
    # for the next request.
    return web.AppRunner(_application(front), access_log=None, auto_decompress=False)


def _application(front: Front) -> web.Application:
    handler = _Handler(front)
    app = web.Application(client_max_size=max(_MAX_MANIFEST, MAX_EVENTS))
    app.cleanup_ctx.append(handler.connected)
    app.router.add_get("/healthz", handler.health)
    app.router.add_get("/metrics", handler.metrics)
    app.router.add_post("/notifications", handler.notified)
    app.router.add_route("*", "/v2{rest:.*}", handler.passed_on)
    # Where a registry gives its tokens itself.
    app.router.add_route("*", "/{rest:(auth|token|service).*}", handler.passed_on)
    return app


class _Handler:
    def __init__(self, front: Front) -> None:
        self._front = front
        self._session: aiohttp.ClientSession

    async def connected(self, app: web.Application) -> AsyncIterator[None]:
        """Keep connections to the registry as long as the application runs."""
        async with aiohttp.ClientSession(
            # Slow clients must not take all connections from the others.
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        ) as self._session:
            yield

    async def passed_on(self, request: web.Request) -> web.StreamResponse:
        """Any request to the registry. The answer to a pushed tag waits until it is published."""
        # The registry, or a proxy before it, might take dots for another path than we do.
        if not request.raw_path.startswith("/") or {".", ".."} & {*request.path.split("/")}:
            return _error(400, "NAME_INVALID", "the path is not valid")
        match = _MANIFEST.fullmatch(request.path) if request.method == "PUT" else None
        try:
            if match is None:
                body = request.content if request.can_read_body else None
                async with self._asked(request, body) as answer:
                    return await _copied(request, answer)
            name = ImageName(self._front.name, match["repository"], match["tag"])
            try:
                check_parts(name.registry, name.repository, name.tag, str(name))
                data = await request.read()
            except InputError as err:
                return _error(400, "NAME_INVALID", err.message)
            except web.HTTPRequestEntityTooLarge:
                return _error(413, "MANIFEST_INVALID", "the manifest is too large")
            async with self._asked(request, data) as answer:
                if answer.status not in (200, 201):
                    return await _copied(request, answer)
                headers, status = _headers(answer.headers), answer.status
                content = await answer.read()
        except (aiohttp.ClientError, asyncio.TimeoutError) as err:
            log.error("the registry %s: %s", self._front.upstream, printable(str(err)))
            return _error(502, "UNAVAILABLE", "the registry behind this one doesn't answer")
        failure = await self._front.batches.publish(name)
        if failure is not None:
            log.error("%s: %s", name, failure)
            # Clients show the text of answers from 400 to 499 only.
            return _error(422, "UNKNOWN", f"pushed, but not published: {failure}")
        headers.popall("Content-Length", None)
        return web.Response(status=status, headers=headers, body=content)

    @contextlib.asynccontextmanager
    async def _asked(
        self, request: web.Request, body: bytes | aiohttp.StreamReader | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = _headers(request.headers)
        # The registry makes its addresses of what the client calls it.
        headers["X-Forwarded-Proto"] = request.scheme
        # aiohttp 3.8 begins to wait for an answer before the body is sent. That may take hours.
        wait = None if isinstance(body, aiohttp.StreamReader) else _READ
        async with self._session.request(
            request.method,
            URL(self._front.upstream + request.raw_path, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=wait),
        ) as answer:
            yield answer

    async def notified(self, request: web.Request) -> web.Response:
        """A notification of another registry: publish what was pushed there, and don't wait."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = self._front.token
        # aiohttp makes lone surrogates of odd bytes.
        sent = given.encode("utf-8", "surrogateescape")
        if token is None or not hmac.compare_digest(sent, token.encode()):
            return _error(401, "UNAUTHORIZED", "notifications need the token")
        try:
            names = pushed(await request.read())
        except InputError as err:
            return _error(400, "UNKNOWN", err.message)
        for repository, tag in names:
            self._front.batches.begin(ImageName(self._front.name, repository, tag))
        return web.Response(status=202)

    async def health(self, request: web.Request) -> web.Response:
        """Whether the registry answers."""
        try:
            address = f"{self._front.upstream}/v2/"
            timeout = aiohttp.ClientTimeout(total=_CONNECT)
            async with self._session.get(address, timeout=timeout) as answer:
                is_well = answer.status in (200, 401)
        except (aiohttp.ClientError, asyncio.TimeoutError):
            is_well = False
        if is_well:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the registry behind this one doesn't answer\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """Counts, in Prometheus's text format 0.0.4."""
        lines = []
        for key, value in vars(self._front.batches.counts).items():
            metric = f"podman_cvmfs_registry_{key}_total"
            lines += [f"# TYPE {metric} counter", f"{metric} {value}"]
        return web.Response(text="\n".join(lines) + "\n")


def checked_name(name: str) -> str:
    """``name`` if users can call a registry so. Raises InputError."""
    check_parts(name, "image", "tag", name)
    return name


def _headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers that are passed on."""
    named = {each.strip().lower() for each in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (key, value)
        for key, value in headers.items()
        if key.lower() not in _HOP_BY_HOP and key.lower() not in named
    )


async def _copied(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """The registry's answer, in pieces."""
    response = web.StreamResponse(status=answer.status, headers=_headers(answer.headers))
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_chunked(_CHUNK):
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError) as err:
        # The answer has begun, so no other can follow: only its early end tells the client.
        log.warning("%s: the answer ended too early: %s", printable(request.path), err)
        if request.transport is not None:
            request.transport.abort()
    return response


def _error(status: int, code: str, message: str) -> web.Response:
    document = {"errors": [{"code": code, "message": printable(message)}]}
    return web.json_response(document, status=status)
