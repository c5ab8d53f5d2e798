# SPDX-License-Identifier: Apache-2.0
"""How long a registry may take over an answer that it has begun."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path

import pytest
import urllib3

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.registry.addresses import Reach
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.connection import BoundedAdapter
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.registry.registries_conf import RegistriesConf
from tests.support.http import Answer, Handler, Server, give, in_turn
from tests.support.tls import Authority

#: Seconds: for one wait; between two bytes; for all together, at most.
_LIMIT, _GAP, _ALL = 0.2, 0.05, 5.0
_BODY = bytes(5000)
_DIGEST = Digest.of(_BODY)


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    with RegistryClient(
        timeout=_LIMIT,
        retries=0,
        conf=RegistriesConf(),
        credentials=CredentialStore([]),
        insecure=True,
    ) as made:
        yield made


def drip(handler: Handler, begin: bytes, drop: bytes) -> None:
    """Begin an answer, then give drop after drop until nobody wants more."""
    handler.close_connection = True
    handler.wfile.write(begin)
    end = time.monotonic() + 4 * _ALL
    while time.monotonic() < end:
        handler.wfile.write(drop)
        time.sleep(_GAP)


_DRIPS = {
    "status": (b"HTTP/1.1 200 ", b"O"),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"\0"),
    "endless": (b"HTTP/1.1 200 OK\r\n\r\n", b"\0"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n\0\r\n"),
    "refusal": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5000\r\n\r\n", b" "),
    "challenge": (b"HTTP/1.1 401 X\r\nContent-Length: 5000\r\n\r\n", b" "),
    "redirect": (b"HTTP/1.1 307 X\r\nLocation: /v2/x\r\nContent-Length: 5000\r\n\r\n", b" "),
}


@pytest.mark.parametrize(("begin", "drop"), _DRIPS.values(), ids=_DRIPS)
def test_an_answer_that_drips(
    server: Server, client: RegistryClient, name: ImageName, begin: bytes, drop: bytes
) -> None:
    server.answers["/v2/"] = lambda handler: drip(handler, begin, drop)
    start = time.monotonic()
    with pytest.raises(RegistryError):
        client.blob(name, _DIGEST)
    assert time.monotonic() - start < _ALL


@pytest.mark.parametrize("how", ["header", "body", "endless", "chunks"])
def test_a_stream_that_drips(
    server: Server, client: RegistryClient, name: ImageName, how: str
) -> None:
    server.answers["/v2/"] = lambda handler: drip(handler, *_DRIPS[how])
    start = time.monotonic()
    with pytest.raises(RegistryError):
        list(client.blob_stream(name, _DIGEST))
    assert time.monotonic() - start < _ALL


def stalling(begin: bytes, over: threading.Event) -> Answer:
    """Begin an answer, and give no more until all is over."""

    def stall(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(begin)
        over.wait(_ALL)

    return stall


_STALLS = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nabc",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "redirect": b"HTTP/1.1 307 X\r\nLocation: /v2/x\r\nContent-Length: 5000\r\n\r\nabc",
}


@pytest.mark.parametrize("begin", _STALLS.values(), ids=_STALLS)
def test_bodies_that_all_stall_are_a_registry_that_does_not_answer(
    server: Server, client: RegistryClient, begin: bytes, pauses: list[float]
) -> None:
    """A sync waits for a few of them, and says that it is waiting."""
    over = threading.Event()

    server.answers["/v2/"] = stalling(begin, over)
    registries = RegistryAccess(lambda: client)
    names = [parse_name(f"{server.address}/group/app{number}:1") for number in range(8)]
    for name in names:
        found, why = registries.ask(name, methodcaller("manifest", name))
        assert found is None and "in time" in why
    assert len(server.requests) <= 6
    assert list(registries.silent) == [server.address]
    # The client knows by itself, too.
    with pytest.raises(RegistryUnreachable, match="in time"):
        client.blob(names[0], _DIGEST)
    assert len(server.requests) <= 6
    over.set()


def test_faults_that_stall(server: Server, client: RegistryClient, pauses: list[float]) -> None:
    begin = b"HTTP/1.1 500 X\r\nContent-Length: 5000\r\n\r\nabc"
    server.answers["/v2/"] = lambda handler: drip(handler, begin, b"")
    for number in range(8):
        with pytest.raises(RegistryBusy, match=r"in time|HTTP 500"):
            client.manifest(parse_name(f"{server.address}/group/app{number}:1"))
    assert len(server.requests) <= 6


@pytest.mark.parametrize("begin", [b"", *_STALLS.values()], ids=["header", *_STALLS])
def test_a_document_that_stalls_is_not_the_registry(
    server: Server, client: RegistryClient, name: ImageName, begin: bytes, pauses: list[float]
) -> None:
    over = threading.Event()

    bad = Digest.of(b"bad")
    server.answers[f"/v2/group/app/blobs/{bad}"] = stalling(begin, over)
    server.answers["/v2/"] = give(_BODY)
    registries = RegistryAccess(lambda: client)
    for _ in range(2):
        found, why = registries.ask(name, methodcaller("blob", name, bad))
        assert found is None and "in time" in why
    assert list(registries.silent) == [server.address]
    with pytest.raises(RegistryBusy, match="in time"):
        client.blob(name, bad)
    assert registries.ask(name, methodcaller("blob", name, _DIGEST)) == (_BODY, "")
    over.set()


def test_an_answer_between_those_that_stall(
    server: Server, client: RegistryClient, name: ImageName, pauses: list[float]
) -> None:
    """What another kind of document does is no comfort."""
    server.answers[f"/v2/group/app/blobs/{_DIGEST}"] = give(_BODY)
    server.answers["/v2/group/app/blobs"] = lambda handler: drip(handler, _STALLS["body"], b"")
    server.answers["/v2/group/app/manifests"] = give(b"{}")
    for text in (b"1", b"2"):
        with pytest.raises(RegistryBusy):
            client.blob(name, Digest.of(text))
    client.blob(name, _DIGEST)
    for text in (b"3", b"4"):
        with pytest.raises(RegistryBusy):
            client.blob(name, Digest.of(text))
        client.manifest(name)
    with pytest.raises(RegistryUnreachable):
        client.blob(name, Digest.of(b"5"))


def test_layers_that_stall(server: Server, client: RegistryClient, pauses: list[float]) -> None:
    server.answers["/v2/"] = lambda handler: drip(handler, _STALLS["body"], b"")
    for number, kind in enumerate((RegistryBusy, RegistryBusy, *[RegistryUnreachable] * 3)):
        name = parse_name(f"{server.address}/group/app{number}:1")
        with pytest.raises(kind, match="timed out"):
            list(client.blob_stream(name, _DIGEST))
    assert len(server.requests) == 9


def test_one_stall_is_forgiven(server: Server, client: RegistryClient, name: ImageName) -> None:
    server.answers["/v2/"] = in_turn(
        lambda handler: drip(handler, _STALLS["body"], b""), give(_BODY)
    )
    assert client.blob(name, _DIGEST) == _BODY


def test_interim_answers_without_end(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    def answer(handler: Handler) -> None:
        handler.close_connection = True
        for _ in range(100_000):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    server.answers["/v2/"] = answer
    start = time.monotonic()
    with pytest.raises(RegistryError):
        client.blob(name, _DIGEST)
    assert time.monotonic() - start < _ALL


def test_a_slow_answer_that_comes(server: Server, client: RegistryClient, name: ImageName) -> None:
    """It takes longer than any one wait may, and is good."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(_BODY)))
        handler.end_headers()
        for at in range(0, len(_BODY), 500):
            handler.wfile.write(_BODY[at : at + 500])
            time.sleep(_GAP)

    server.answers["/v2/"] = answer
    start = time.monotonic()
    assert client.blob(name, _DIGEST) == _BODY
    assert time.monotonic() - start > 2 * _LIMIT


def test_the_time_that_we_take_is_not_the_registrys(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    body = bytes(4 << 20)
    server.answers["/v2/"] = lambda handler: handler.reply(200, body)
    pieces = client.blob_stream(name, Digest.of(body))
    size = len(next(pieces))
    time.sleep(3 * _LIMIT)
    assert size + sum(map(len, pieces)) == len(body)


def test_over_tls(tmp_path: Path, server: Server, client: RegistryClient, name: ImageName) -> None:
    issued = Authority(tmp_path).issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/v2/"] = lambda handler: drip(handler, *_DRIPS["body"])
    start = time.monotonic()
    with pytest.raises(RegistryError, match="in time"):
        client.blob(name, _DIGEST)
    assert time.monotonic() - start < _ALL


def test_a_managers_own_pools_stay() -> None:
    """Those for a SOCKS proxy connect otherwise: an ordinary pool would go past the proxy."""

    class Connection(urllib3.connection.HTTPConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class Manager(urllib3.PoolManager):
        def __init__(self) -> None:
            super().__init__()
            self.pool_classes_by_scheme = {"http": Pool}

    adapter = BoundedAdapter(Reach())
    adapter.proxy_manager["http://proxy"] = manager = Manager()
    for _ in range(2):
        assert adapter.proxy_manager_for("http://proxy") is manager
    paced = manager.pool_classes_by_scheme["http"]
    assert issubclass(paced, Pool) and paced is not Pool
    connection = paced.ConnectionCls
    assert issubclass(connection, Connection) and connection is not Connection
