# SPDX-License-Identifier: Apache-2.0
"""A hostile registry on the Internet, and services inside that it would have us ask.

Both are real servers, on addresses of a network namespace. Names are looked up in a table of ours.
"""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.names.reference import parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry import transport
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import Credentials, CredentialStore
from podman_cvmfs.registry.registries_conf import RegistriesConf
from tests.support.http import Handler, Server, give, serving
from tests.support.network import in_own_network

MANIFEST = b'{"schemaVersion": 2, "mediaType": "%s"}' % documents.OCI_MANIFEST.encode()
DIGEST = Digest.of(MANIFEST)
TOKEN = "INTERNAL-SECRET-TOKEN"
PUBLIC, CDN = "198.51.100.7", "203.0.113.9"
#: Addresses of this machine in the namespace, besides 127.0.0.0/8 and ::1.
ADDRESSES = (
    *(PUBLIC, CDN, "10.0.0.5", "10.0.0.6", "172.16.0.5", "192.168.0.5", "100.64.0.5", "fd00::5"),
    *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("fd00:ec2::254", "fec0::5", "64:ff9b::a00:5", "2002:a00:5::1", "::a00:5"),
    *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:c633:6407::80ff:fffe"),
)
INSIDE = (
    *("127.0.0.1:{}", "127.1:{}", "2130706433:{}", "0x7f.1:{}", "0177.0.0.1:{}", "localhost:{}"),
    *("LOCALHOST:{}", "x.localhost:{}", "localhost.:{}", "[::1]:{}", "[::ffff:127.0.0.1]:{}"),
    *("0.0.0.0:{}", "[::]:{}", "0:{}", "127.0.0.1.:{}", "%31%32%37.0.0.1:{}", "[::1%25lo]:{}"),
    *(f"[{address}]:{{}}" if ":" in address else f"{address}:{{}}" for address in ADDRESSES[2:]),
    *("user@127.0.0.1:{}", "user:password@127.0.0.1:{}", "@127.0.0.1:{}"),
    *("127.0.0.1:{}\\@192.0.2.2", "127.0.0.1:{}\\.example.org", "\\127.0.0.1:{}"),
    *("198.51.100.7\\@127.0.0.1:{}", "127.0.0.1:{}#@192.0.2.2", "127.0.0.1:{}?@192.0.2.2"),
    *(" 127.0.0.1:{}", "127.0.0.1:{} ", "127.0.0.1\t:{}", "\xa0127.0.0.1:{}", "127。0。0。1:{}"),
    *("①②⑦.⓪.⓪.①:{}", "loopback.example:{}", "both.example:{}", "private.example:{}"),
    *("LOOPBACK.example.:{}", "mapped.example:{}", "ula.example:{}"),
)

Names = Mapping[str, list[list[str]]]
#: What each name stands for, one answer after the other; the last stays.
NAMES: Names = {
    "evil.example": [[PUBLIC]],
    "cdn.example": [[CDN]],
    "loopback.example": [["127.0.0.1"]],
    "both.example": [["127.0.0.1", PUBLIC]],
    "private.example": [["10.0.0.5"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "ula.example": [["fd00::5"]],
    #: It lets the registry's address be seen once, and by then stands for this machine.
    "rebind.example": [[PUBLIC], ["127.0.0.1"]],
    "claims.example": [["127.0.0.1", PUBLIC]],
    "auth.example": [["10.0.0.6"]],
}


class Login(CredentialStore):
    """A login for every registry."""

    def find(self, registry: str, repository: str) -> Credentials | None:
        return Credentials("robot", "S3CRET")


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks names up in NAMES, anew for each test, and nowhere else."""
    left = {name: [*answers] for name, answers in NAMES.items()}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = str(host).rstrip(".").lower()
        if name.endswith("localhost"):
            return real("127.0.0.1", port, *args, **options)
        if name not in left or options.get("flags", 0) & socket.AI_NUMERICHOST:
            options["flags"] = socket.AI_NUMERICHOST
            return real(host, port, *args, **options)
        answers = left[name]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [each for address in found for each in real(address, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    # The registries here speak no TLS.
    monkeypatch.setattr(transport.Transport, "_schemes_of", lambda *_: ("http",))


def networked(test: Callable[..., None]) -> Callable[..., None]:
    """Run the test in a network of its own."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        in_own_network(ADDRESSES, lambda: test(*args, **options))

    return run


@contextmanager
def world(registry: str = PUBLIC) -> Iterator[tuple[Server, Server, RegistryClient]]:
    """A registry at an address, a service that listens at all addresses, and a client."""
    with ExitStack() as stack:
        outer, inner = (stack.enter_context(serving(host)) for host in (registry, "::"))
        inner.answers["/"] = give(json.dumps({"token": TOKEN}).encode())
        client = stack.enter_context(
            RegistryClient(
                timeout=5, retries=0, conf=RegistriesConf(), credentials=Login(), insecure=True
            )
        )
        yield outer, inner, client


def challenge(realm: str) -> Callable[[Handler], None]:
    """Want a token from ``realm``, and take none but a good one."""

    def answer(handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer good":
            handler.reply(200, MANIFEST)
        else:
            handler.reply(401, WWW_Authenticate=f'Bearer realm="{realm}"')

    return answer


def leading(location: str) -> Callable[[Handler], None]:
    """Redirect to ``location``."""
    return give(b"", 307, Location=location)


def check_unharmed(registry: Server, inner: Server) -> None:
    """Nobody inside was asked, and the registry got nothing that isn't its own."""
    assert registry.paths and inner.requests == []
    for _, headers in registry.requests:
        assert "Authorization" not in headers


@pytest.mark.parametrize("host", INSIDE)
@networked
def test_a_token_service_inside(host: str) -> None:
    with world() as (registry, inner, client):
        realm = f"http://{host.format(inner.server_port)}/token"
        registry.answers["/v2/"] = challenge(realm.encode().decode("latin-1"))
        name = parse_name(f"{registry.address}/a/b:1")
        for ask in (client.manifest, client.tags):
            with pytest.raises(RegistryError) as caught:
                ask(name)
            assert caught.value.message.isprintable() and TOKEN not in caught.value.message
        check_unharmed(registry, inner)


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("host", INSIDE)
@networked
def test_a_redirect_inside(host: str, status: int) -> None:
    with world() as (registry, inner, client):
        location = f"http://{host.format(inner.server_port)}/x".encode().decode("latin-1")
        registry.answers["/v2/"] = lambda handler: handler.reply(status, Location=location)
        with pytest.raises(RegistryError) as caught:
            client.blob(parse_name(f"{registry.address}/a/b:1"), DIGEST)
        assert caught.value.message.isprintable()
        check_unharmed(registry, inner)


@networked
def test_a_redirect_inside_by_way_of_a_third() -> None:
    with world() as (registry, inner, client), serving(CDN) as cdn:
        registry.answers["/v2/"] = leading(f"http://cdn.example:{cdn.server_port}/x")
        cdn.answers["/x"] = leading(f"http://private.example:{inner.server_port}/x")
        with pytest.raises(RegistryError, match="into a private network"):
            client.blob(parse_name(f"{registry.address}/a/b:1"), DIGEST)
        check_unharmed(registry, inner)
        assert cdn.paths == ["/x"]


@pytest.mark.parametrize("how", ["redirect", "token"])
@networked
def test_a_registry_that_moves_inside(how: str) -> None:
    """Its own name stands for this machine once it has answered (DNS rebinding)."""
    with world() as (registry, inner, client):
        target = f"http://rebind.example:{inner.server_port}/x"
        registry.answers["/v2/"] = leading(target) if how == "redirect" else challenge(target)
        with pytest.raises(RegistryError, match="this machine or its link"):
            client.manifest(parse_name(f"rebind.example:{registry.server_port}/a/b:1"))
        check_unharmed(registry, inner)


@networked
def test_a_registry_that_claims_to_be_inside() -> None:
    """One of its addresses is this machine, where nobody listens: so it may not send us there."""
    with world() as (registry, inner, client):
        registry.answers["/v2/"] = challenge(f"http://127.0.0.1:{inner.server_port}/x")
        with pytest.raises(RegistryError, match="this machine or its link"):
            client.manifest(parse_name(f"claims.example:{registry.server_port}/a/b:1"))
        check_unharmed(registry, inner)


@pytest.mark.parametrize("how", ["redirect", "token"])
@networked
def test_a_connection_that_is_there_already(how: str) -> None:
    """An image of a registry inside was asked for before."""
    with world() as (registry, inner, client):
        inside = f"private.example:{inner.server_port}"
        inner.answers = {"/v2/": give(MANIFEST), **inner.answers}
        assert client.manifest(parse_name(f"{inside}/a/b:1"))[0] == MANIFEST
        inner.requests.clear()
        target = f"http://{inside}/x"
        registry.answers["/v2/"] = leading(target) if how == "redirect" else challenge(target)
        with pytest.raises(RegistryError, match="into a private network"):
            client.manifest(parse_name(f"{registry.address}/a/b:1"))
        check_unharmed(registry, inner)
        # It may still be asked by those who may.
        assert client.manifest(parse_name(f"{inside}/a/b:1"))[0] == MANIFEST


@pytest.mark.parametrize("scheme", ["http", "https"])
@networked
def test_not_a_byte_is_sent_inside(scheme: str) -> None:
    """Not the beginning of TLS either."""
    with world() as (registry, _, client), socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        target = f"{scheme}://loopback.example:{listener.getsockname()[1]}/x"
        registry.answers["/v2/"] = challenge(target)
        with pytest.raises(RegistryError, match="this machine or its link"):
            client.manifest(parse_name(f"{registry.address}/a/b:1"))
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(1) == b""


# ---------------------------------------------------------------------- ways that stay


@pytest.mark.parametrize(
    ("at", "to"),
    [
        *((PUBLIC, "cdn.example"), (PUBLIC, CDN), ("10.0.0.5", "cdn.example")),
        *(("10.0.0.5", "10.0.0.5"), ("10.0.0.5", "auth.example"), ("10.0.0.5", "[fd00::5]")),
        *(("fd00::5", "192.168.0.5"), ("100.64.0.5", "private.example"), ("172.16.0.5", PUBLIC)),
        *(("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("127.0.0.1", "auth.example")),
        *(("127.0.0.1", "169.254.169.254"), ("::1", "loopback.example"), ("127.0.0.1", CDN)),
    ],
)
@networked
def test_ways_that_stay_open(at: str, to: str) -> None:
    """To another host as near, or farther away: for a token with a login, and for blobs."""
    with world(at) as (registry, other, client):
        target = f"http://{to}:{other.server_port}"
        registry.answers["/v2/a/b/manifests"] = challenge(f"{target}/token")
        registry.answers["/v2/a/b/blobs"] = leading(f"{target}/blob")
        other.answers = {
            "/token": give(b'{"token": "good"}'),
            "/blob": give(MANIFEST),
        }
        name = parse_name(f"{registry.address}/a/b:1")
        assert client.manifest(name)[0] == MANIFEST
        assert client.blob(name, DIGEST) == MANIFEST
        tokens = [headers for path, headers in other.requests if path.startswith("/token")]
        assert [headers.get("Authorization", "")[:6] for headers in tokens] == ["Basic "]


@pytest.mark.parametrize("to", ["127.0.0.1", "loopback.example", "169.254.169.254", "[::1]"])
@networked
def test_a_private_registry_is_not_this_machine(to: str) -> None:
    with world("10.0.0.5") as (registry, inner, client):
        registry.answers["/v2/"] = challenge(f"http://{to}:{inner.server_port}/token")
        with pytest.raises(RegistryError, match="this machine or its link"):
            client.manifest(parse_name(f"{registry.address}/a/b:1"))
        check_unharmed(registry, inner)
