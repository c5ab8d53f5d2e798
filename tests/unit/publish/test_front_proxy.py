# SPDX-License-Identifier: Apache-2.0
"""What the front passes on to the registry: hostile clients, and a registry that breaks off."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.publish.front.batches import Batches
from podman_cvmfs.publish.front.proxy import Front, runner

SLOW = b"/v2/slow/blobs/uploads/"
OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Result:
    """What the client read, what the registry read, and what was published."""

    read: bytes = b""
    sent: bytearray = field(default_factory=bytearray)
    published: list[ImageName] = field(default_factory=list)


def asked(
    request: bytes, answer: bytes = OK, then_closes: bool = False, uploads: int = 0
) -> Result:
    """Send ``request`` to a front whose registry answers ``answer`` to everything. Before, so many
    clients begin uploads that they don't end."""
    result = Result()

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if SLOW in data:
                await reader.read()
                break
            result.sent += data
            if b"\r\n\r\n" in result.sent:
                writer.write(answer)
                await writer.drain()
                if then_closes:
                    break
        writer.close()

    def publish(names: Sequence[ImageName]) -> Mapping[ImageName, str]:
        result.published += names
        return {}

    async def run() -> None:
        upstream = await asyncio.start_server(registry, "127.0.0.1", 0)
        batches = Batches(publish)
        worker = asyncio.create_task(batches.run())
        address = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        served = runner(Front("front:1", f"http://{address}", batches, "s3cret"))
        await served.setup()
        await web.TCPSite(served, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*served.addresses[0][:2])
        others = [await asyncio.open_connection(*served.addresses[0][:2]) for _ in range(uploads)]
        for _, other in others:
            other.write(b"POST " + SLOW + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
            await other.drain()
        await asyncio.sleep(uploads / 200)
        writer.write(request)
        try:
            while data := await asyncio.wait_for(reader.read(1 << 16), 0.5):
                result.read += data
        except asyncio.TimeoutError:
            pass
        for each in (writer, *(other for _, other in others)):
            each.close()
        await served.cleanup()
        worker.cancel()
        upstream.close()

    asyncio.run(run())
    return result


def pushed(path: str) -> Result:
    head = f"PUT {path} HTTP/1.1\r\nHost: front:1\r\nContent-Length: 2\r\n\r\n"
    return asked(head.encode() + b"{}")


def test_a_push_is_published() -> None:
    result = pushed("/v2/a/b/manifests/1")
    assert result.read.startswith(b"HTTP/1.1 201")
    assert result.published == [ImageName("front:1", "a/b", "1")]
    # By its digest it has no name.
    result = pushed("/v2/a/b/manifests/sha256:" + "0" * 64)
    assert result.read.startswith(b"HTTP/1.1 201") and result.published == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../x/manifests/1",
        "/v2/%2e%2e/%2E%2e/x/manifests/1",
        "/v2/..%2f..%2fx/manifests/1",
        "/v2/a/./b/manifests/1",
        "/v2/a//b/manifests/1",
        "/v2/A/manifests/1",
        "/v2/a/manifests/%C3%A9",
        "/v2/a/manifests/-x",
        f"/v2/{'a/' * 150}a/manifests/1",
    ],
)
def test_what_is_no_name_is_not_passed_on(path: str) -> None:
    result = pushed(path)
    assert result.read.startswith(b"HTTP/1.1 400") and b"NAME_INVALID" in result.read
    assert (bytes(result.sent), result.published) == (b"", [])


@pytest.mark.parametrize("path", ["/v2/../admin", "http://x/v2/", "m://x/v2/", "/auth/%2e%2e/api"])
def test_no_request_leaves_the_paths_of_registries(path: str) -> None:
    result = asked(f"GET {path} HTTP/1.1\r\nHost: front:1\r\n\r\n".encode())
    assert result.read.startswith(b"HTTP/1.1 400") and not result.sent


def test_a_body_is_as_long_as_its_header_says() -> None:
    """If the front unpacked it, the registry would take its end for another request."""
    body = zlib.compress(b" " * 500 + b"GET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    head = b"POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: front:1\r\nContent-Encoding: deflate\r\n"
    result = asked(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert result.read.startswith(b"HTTP/1.1 201")
    assert bytes(result.sent).partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize(
    "head, begun",
    [
        (b"Content-Length: 1000\r\n\r\n", b"begun"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\n", b"begun\r\n"),
    ],
)
def test_an_answer_that_breaks_off_ends_there(head: bytes, begun: bytes) -> None:
    """A second answer in the first one would pass for its content."""
    answer = b"HTTP/1.1 200 OK\r\n" + head + begun
    result = asked(b"GET /v2/x HTTP/1.1\r\nHost: front:1\r\n\r\n", answer, then_closes=True)
    assert result.read.startswith(b"HTTP/1.1 200") and result.read.count(b"HTTP/1.1") == 1
    assert result.read.endswith(begun)


def test_a_token_of_odd_bytes_is_refused() -> None:
    head = b"POST /notifications HTTP/1.1\r\nHost: front:1\r\nAuthorization: Bearer \xff\r\n"
    result = asked(head + b"Content-Length: 2\r\n\r\n{}")
    assert result.read.startswith(b"HTTP/1.1 401")


def test_slow_uploads_leave_room_for_others() -> None:
    result = asked(b"GET /v2/ HTTP/1.1\r\nHost: front:1\r\n\r\n", uploads=150)
    assert result.read.startswith(b"HTTP/1.1 201")
