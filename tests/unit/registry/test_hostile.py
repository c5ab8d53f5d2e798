# SPDX-License-Identifier: Apache-2.0
"""What a registry that means harm may answer: no way leads inside, and no answer is too much.

Registries on the Internet are played by a proxy: it answers in the name of every host.
"""

from __future__ import annotations

import gc
import gzip
import json
import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from podman_cvmfs.errors import InputError, RegistryError
from podman_cvmfs.lists.layer_stream import LayerStream
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Descriptor, Digest
from podman_cvmfs.registry.addresses import looked_up
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.registry.registries_conf import RegistriesConf
from tests.support.http import Answer, Handler, Server, give, in_turn, serving

MANIFEST = b'{"schemaVersion": 2, "mediaType": "%s"}' % documents.OCI_MANIFEST.encode()
DIGEST = Digest.of(MANIFEST)
PUBLIC = "http://registry.example.org"


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """All hosts of the Internet, by plain HTTP."""
    with serving() as made:
        monkeypatch.setenv("http_proxy", f"http://{made.address}")
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        yield made


@pytest.fixture
def client(pauses: list[float]) -> Iterator[RegistryClient]:
    with RegistryClient(
        timeout=5, conf=RegistriesConf(), credentials=CredentialStore([]), insecure=True
    ) as made:
        yield made


# ---------------------------------------------------------------------- ways that lead inside


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_into_this_machine(
    internet: Server, server: Server, client: RegistryClient, status: int
) -> None:
    """A registry elsewhere may not have us ask a service of our own."""
    server.answers["/"] = give(MANIFEST)
    location = f"http://{server.address}/secret"
    internet.answers[PUBLIC] = lambda handler: handler.reply(status, Location=location)
    with pytest.raises(RegistryError, match="sends us to this machine or its link"):
        client.manifest(parse_name("registry.example.org/app:1"))
    assert internet.paths and server.requests == []


def test_a_redirect_by_way_of_a_third(
    internet: Server, server: Server, client: RegistryClient
) -> None:
    server.answers["/"] = give(MANIFEST)
    internet.answers[PUBLIC] = lambda h: h.reply(307, Location="http://cdn.example.org/x")
    internet.answers["http://cdn.example.org"] = lambda h: h.reply(
        307, Location=f"http://{server.address}/secret"
    )
    with pytest.raises(RegistryError, match="sends us to this machine"):
        client.manifest(parse_name("registry.example.org/app:1"))
    assert len(internet.paths) == 2 and server.requests == []


def test_a_redirect_to_another_host_elsewhere(internet: Server, client: RegistryClient) -> None:
    internet.answers[PUBLIC] = lambda h: h.reply(307, Location="http://cdn.example.org/x")
    internet.answers["http://cdn.example.org"] = give(MANIFEST)
    assert client.blob(parse_name("registry.example.org/app:1"), DIGEST) == MANIFEST


@pytest.mark.parametrize("service", ["{loopback}", "169.254.169.254", "localhost"])
def test_a_token_service_inside(
    internet: Server, server: Server, client: RegistryClient, service: str
) -> None:
    """It might give a token that isn't the registry's to have, which we would then hand over."""
    server.answers["/"] = give(json.dumps({"token": "secret"}).encode())
    realm = f"http://{service.format(loopback=server.address)}/token"
    internet.answers[PUBLIC] = give(b"", 401, WWW_Authenticate=f'Bearer realm="{realm}"')
    with pytest.raises(RegistryError, match=r"bad challenge.*this machine or its link"):
        client.manifest(parse_name("registry.example.org/app:1"))
    assert server.requests == []
    assert not any("169.254" in path for path in internet.paths)


def test_a_name_that_stands_for_this_machine_here(
    internet: Server, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy may know it by another address; but no good registry sends us to such a name."""
    look_up_as(monkeypatch, {"inner.example.org": "127.0.0.1"})
    internet.answers[PUBLIC] = _challenge("http://inner.example.org/token")
    with pytest.raises(RegistryError, match="this machine or its link"):
        client.manifest(parse_name("registry.example.org/app:1"))
    assert not any("inner.example.org" in path for path in internet.paths)


@pytest.mark.parametrize("claimed", ["127.0.0.1", "10.0.0.5"])
@pytest.mark.parametrize("target", ["127.0.0.1", "10.0.0.6", "[fd00::5]"])
def test_a_registry_behind_the_proxy_that_claims_to_be_inside(
    internet: Server,
    server: Server,
    client: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    claimed: str,
    target: str,
) -> None:
    """What its name stands for here says nothing of where the proxy found it."""
    look_up_as(monkeypatch, {"registry.example.org": claimed})
    internet.answers[PUBLIC] = _challenge(f"http://{target}:{server.server_port}/token")
    with pytest.raises(RegistryError, match=r"sends us (to this machine|into a private network)"):
        client.manifest(parse_name("registry.example.org/app:1"))
    assert server.requests == []
    assert not any("/token" in path for path in internet.paths)


def test_a_private_registry_and_its_token_service_behind_the_proxy(
    internet: Server, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy may ask both; so may a registry by its address."""
    look_up_as(monkeypatch, {"auth.example.org": "10.0.0.6"})
    internet.answers = {
        PUBLIC: _guarded("http://auth.example.org/token"),
        "http://10.0.0.5": _guarded("http://10.0.0.6/token"),
        "http://auth.example.org/token": give(b'{"token": "good"}'),
        "http://10.0.0.6/token": give(b'{"token": "good"}'),
    }
    for host in ("registry.example.org", "10.0.0.5"):
        assert client.manifest(parse_name(f"{host}/app:1"))[0] == MANIFEST


def _guarded(realm: str) -> Answer:
    return in_turn(_challenge(realm), give(MANIFEST))


def look_up_as(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    """Have ``names`` stand for addresses, and nothing else change."""
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        is_name = not options.get("flags", 0) & socket.AI_NUMERICHOST
        return real(names.get(host, host) if is_name else host, *args, **options)

    looked_up.cache_clear()
    monkeypatch.setattr(socket, "getaddrinfo", look_up)


# ---------------------------------------------------------------------- answers that are too much


def _endless(handler: Handler) -> None:
    handler.close_connection = True
    handler.send_response(handler.server.status)  # type: ignore[attr-defined]
    handler.send_header("Location", "/v2/group/app/elsewhere")
    handler.send_header("Content-Encoding", "gzip")
    handler.end_headers()
    for _ in range(2000):
        handler.wfile.write(b"\0" * (1 << 20))


@pytest.mark.parametrize("status", [200, 401, 404, 500, 307])
def test_a_body_without_end(
    server: Server, client: RegistryClient, name: ImageName, status: int
) -> None:
    """Only its beginning is read, and no memory filled."""
    server.status = status  # type: ignore[attr-defined]
    server.answers["/v2/group/app/elsewhere"] = give(b"", 404)
    server.answers["/v2/"] = _endless
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with pytest.raises(RegistryError):
        client.blob(name, DIGEST)
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("length", [b"-1", b"-5", b"f" * 15])
def test_a_chunk_without_end(
    server: Server, client: RegistryClient, name: ImageName, length: bytes, stream: bool
) -> None:
    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n" % length)
        for _ in range(1000):
            handler.wfile.write(b"\0" * (1 << 20))

    server.answers["/v2/"] = answer
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((RegistryError, InputError)):
        if stream:
            layer = Descriptor("", DIGEST, 1 << 20)
            LayerStream(client.blob_stream(name, DIGEST), layer, DIGEST).finish()
        client.blob(name, DIGEST)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_redirect_with_a_chunk_without_end(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    """However short it says to be."""
    sent = 0

    def answer(handler: Handler) -> None:
        nonlocal sent
        handler.close_connection = True
        handler.wfile.write(
            b"HTTP/1.1 307 X\r\nLocation: /v2/group/app/elsewhere\r\nContent-Length: 10\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
        )
        for _ in range(200):
            handler.wfile.write(b"\0" * (1 << 20))
            sent += 1

    server.answers["/v2/group/app/elsewhere"] = give(MANIFEST)
    server.answers["/v2/"] = answer
    assert client.blob(name, DIGEST) == MANIFEST
    assert sent < 100


def test_cookies_are_not_kept(server: Server, client: RegistryClient, name: ImageName) -> None:
    """There may be no end to them, and no registry needs any."""
    server.answers["/v2/"] = give(MANIFEST, Set_Cookie="a=" + "b" * 4000 + "; Path=/")
    for _ in range(2):
        assert client.blob(name, DIGEST) == MANIFEST
    assert not any("Cookie" in headers for _, headers in server.requests)
    assert [len(each.cookies) for each in client._transport._sessions] == [0]


def test_a_compressed_answer_is_not_decompressed(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    server.answers["/v2/"] = give(bomb, Content_Encoding="gzip")
    assert client.manifest(name)[0] == bomb


@pytest.mark.parametrize("length", ["9" * 18, "9" * 5000, "-5", "\xb2", "1e3", "0x10"])
@pytest.mark.parametrize("stream", [False, True])
def test_lengths_that_are_none(
    server: Server, client: RegistryClient, name: ImageName, length: str, stream: bool
) -> None:
    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % length.encode("l1"))
        handler.wfile.write(MANIFEST)

    server.answers["/v2/"] = answer
    try:
        stored = client.blob_stream(name, DIGEST) if stream else [client.blob(name, DIGEST)]
        data = b"".join(stored)
    except RegistryError:
        return
    assert data in (MANIFEST, b"")


_DEEP = b"[" * 500_000
_OBJECTS = b'{"a":' * 100_000


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """Where the stack is used up, Python can't run a finalizer; so nothing is collected there."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage")
@pytest.mark.parametrize("body", [_DEEP, _OBJECTS, b'{"tags": %s' % _DEEP], ids=["a", "o", "t"])
def test_deeply_nested_json(
    server: Server, client: RegistryClient, name: ImageName, body: bytes
) -> None:
    server.answers["/v2/"] = give(body)
    with pytest.raises(RegistryError, match="nested too deeply"):
        client.tags(name)
    data, media_type = client.manifest(name)
    assert (data, media_type) == (body, "")
    with pytest.raises(InputError, match="nested too deeply"):
        documents.parse_manifest(data)
    server.answers = {"/token": give(body), "/v2/": _challenge(f"http://{server.address}/token")}
    with pytest.raises(RegistryError, match="gave no token"):
        client.manifest(name)


def _challenge(realm: str) -> Answer:
    return give(b"", 401, WWW_Authenticate=f'Bearer realm="{realm}"')


@pytest.mark.parametrize(
    "realm",
    [
        "http://{}/a" + "b" * 60_000,
        "http://{}/%00%0d%0aEvil:%201",
        "http://{}/\t",
        "http://{}:x/",
        "http://{}@no-such-host.invalid/",
        "http://user:password@{}/token",
        "http://{}/token?service=other&scope=admin#x",
        "http://{}\\@no-such-host.invalid/",
        "http://no-such-host.invalid/{}",
        "http://" + "a." * 200 + "invalid/{}",
        "http://xn--.invalid/{}",
        "http://\xe4.invalid/{}",
        "HTTP://[v1.x]/{}",
    ],
)
def test_realms(server: Server, client: RegistryClient, name: ImageName, realm: str) -> None:
    """Whatever it is, there is one error, and no header that we didn't mean to send."""
    server.answers = {"/v2/": _challenge(realm.format(server.address))}
    with pytest.raises(RegistryError) as caught:
        client.manifest(name)
    assert len(caught.value.message) < 70_000 and caught.value.message.isprintable()
    for _, headers in server.requests:
        assert "Evil" not in headers and "Authorization" not in headers


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 999999999999999 \r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\0\xff" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 307 X\r\nLocation: " + b"/x" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 X\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    ],
    ids=range(10),
)
def test_nonsense(server: Server, client: RegistryClient, name: ImageName, head: bytes) -> None:
    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(head)

    server.answers["/v2/"] = answer
    with pytest.raises(RegistryError) as caught:
        client.blob(name, DIGEST)
    assert caught.value.message.isprintable()
