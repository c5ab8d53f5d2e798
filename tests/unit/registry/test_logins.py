# SPDX-License-Identifier: Apache-2.0
"""How the registry client gets in: passwords and tokens, and who never gets them."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.auth import Authenticator, Door, _Challenge, _parse
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import Credentials
from podman_cvmfs.registry.registries_conf import RegistriesConf
from podman_cvmfs.registry.transport import Transport
from tests.support.http import Handler, Server, give
from tests.support.logins import (
    BASIC,
    MANIFEST,
    SECRET,
    TOKEN,
    Known,
    new_client,
    only_with,
    sent,
    token_service,
)

pytestmark = pytest.mark.usefixtures("pauses", "nothing_secret_is_said")


REALM = 'Bearer realm="http://tokens.example.org/token"'


def test_basic(server: Server, name: ImageName) -> None:
    server.answers["/v2/"] = only_with(BASIC, give(MANIFEST), 'Basic realm="x"')
    with new_client(Credentials("me", SECRET)) as client:
        assert client.manifest(name)[0] == MANIFEST
        assert client.manifest(parse_name(f"{server.address}/second:1"))[0] == MANIFEST
    # Nothing is sent before it is asked for; then the registry is known.
    assert sent(server) == [None, BASIC, BASIC]


def test_wrong_password(server: Server, name: ImageName) -> None:
    server.answers["/v2/"] = give(b"", 401, WWW_Authenticate='Basic realm="x"')
    with new_client(Credentials("me", SECRET)) as client, pytest.raises(RegistryError) as caught:
        client.manifest(name)
    assert "denies access" in caught.value.message
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"
    assert len(server.requests) == 2


def test_no_password(server: Server, name: ImageName) -> None:
    server.answers["/v2/"] = give(b"", 401, WWW_Authenticate='Basic realm="x"')
    with new_client() as client, pytest.raises(RegistryError, match="wants a login") as caught:
        client.manifest(name)
    assert caught.value.hint == f"log in with: podman login {name.registry}"


def test_a_public_repository_beside_one_with_a_password(server: Server, name: ImageName) -> None:
    server.answers["/v2/group/"] = only_with(BASIC, give(MANIFEST), 'Basic realm="x"')
    server.answers["/v2/secret/"] = give(b"", 401, WWW_Authenticate='Basic realm="x"')
    server.answers["/v2/public/"] = give(MANIFEST)
    known = Known(Credentials("me", SECRET), "group/")
    with RegistryClient(timeout=5, conf=RegistriesConf(), credentials=known) as client:
        assert client.manifest(name)[0] == MANIFEST
        assert client.manifest(parse_name(f"{server.address}/public/app:1"))[0] == MANIFEST
        with pytest.raises(RegistryError, match="wants a login"):
            client.manifest(parse_name(f"{server.address}/secret/app:1"))
    assert sent(server) == [None, BASIC, None, None]


def test_token_for_a_password(server: Server, other: Server, name: ImageName) -> None:
    token_service(server, other, give(MANIFEST))
    answer = give(json.dumps({"token": TOKEN}).encode())
    other.answers["/token"] = only_with(BASIC, answer, 'Basic realm="y"')
    with new_client(Credentials("me", SECRET)) as client:
        assert client.manifest(name)[0] == MANIFEST
    # The password goes to the token service alone.
    assert sent(server) == [None, f"Bearer {TOKEN}"]
    assert sent(other) == [BASIC]
    assert other.paths == ["/token?scope=repository%3Agroup%2Fapp%3Apull&service=r"]


def test_the_second_repository_costs_no_refusal(
    server: Server, other: Server, name: ImageName
) -> None:
    token_service(server, other, give(MANIFEST))
    other.answers["/token"] = give(json.dumps({"token": TOKEN}).encode())
    with new_client() as client:
        client.manifest(name)
        client.manifest(parse_name(f"{server.address}/second:1"))
        client.manifest(parse_name(f"{server.address}/second:2"))
    assert sent(server) == [None] + [f"Bearer {TOKEN}"] * 3
    assert [path.partition("&")[0] for path in other.paths] == [
        "/token?scope=repository%3Agroup%2Fapp%3Apull",
        "/token?scope=repository%3Asecond%3Apull",
    ]


def test_token_for_a_refresh_token(server: Server, other: Server, name: ImageName) -> None:
    token_service(server, other, give(MANIFEST))
    forms = []

    def grant(handler: Handler) -> None:
        forms.append((handler.command, parse_qs(handler.body.decode())))
        handler.reply(200, json.dumps({"access_token": TOKEN}).encode())

    other.answers["/token"] = grant
    with new_client(Credentials(identity_token=SECRET)) as client:
        assert client.manifest(name)[0] == MANIFEST
    expected = {"grant_type": ["refresh_token"], "refresh_token": [SECRET], "service": ["r"]}
    expected.update(scope=["repository:group/app:pull"], client_id=["podman-cvmfs"])
    assert forms == [("POST", expected)]
    assert other.paths == ["/token"]
    assert sent(other) == [None]


@pytest.mark.parametrize("status", [307, 308])
def test_a_refresh_token_goes_no_further(
    server: Server, other: Server, name: ImageName, status: int
) -> None:
    token_service(server, other, give(MANIFEST))
    server.answers = {"/elsewhere": give(b""), **server.answers}
    location = f"http://{server.address}/elsewhere"
    other.answers["/token"] = give(b"", status, Location=location)
    client = new_client(Credentials(identity_token=SECRET))
    with client, pytest.raises(RegistryError, match="redirects a request"):
        client.manifest(name)
    assert not any(path == "/elsewhere" for path in server.paths)


def test_refused_credentials(server: Server, other: Server, name: ImageName) -> None:
    token_service(server, other, give(MANIFEST))
    other.answers["/token"] = give(b"", 401)
    client = new_client(Credentials("me", SECRET))
    with client, pytest.raises(RegistryError, match="refuses the credentials") as caught:
        client.manifest(name)
    assert caught.value.hint == f"log in again: podman login {name.registry}"


def test_no_password_leaves_unencrypted() -> None:
    transport = Transport(1, 0, 0)
    door = Door("r.io", "r.io", "a", True)
    authenticator = Authenticator(transport, Known(Credentials("me", SECRET)))
    with pytest.raises(RegistryError, match="unencrypted to tokens"):
        authenticator.renew(door, REALM, None, "x")


class Tokens(Transport):
    """Gives everybody a token, and notes who asks where."""

    def __init__(self) -> None:
        super().__init__(1, 0, 0)
        self.asked: list[tuple[str, str | None]] = []

    def request(self, method: str, url: str, subject: str, **options: Any) -> requests.Response:
        self.asked.append((url, options["authorization"]))
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO()
        return response

    def body(self, *_: object) -> bytes:
        return json.dumps({"token": TOKEN}).encode()


def test_no_password_leaves_unencrypted_later_either() -> None:
    """The first image needs no password, so that its challenge may be met; the next one has one."""
    tokens = Tokens()
    authenticator = Authenticator(tokens, Known(Credentials("me", SECRET), "b"))
    authenticator.renew(Door("r.io", "r.io", "a", True), REALM, None, "x")
    with pytest.raises(RegistryError, match="unencrypted to tokens"):
        authenticator.authorization(Door("r.io", "r.io", "b", False), "x")
    assert tokens.asked == [("http://tokens.example.org/token", None)]


def test_what_anybody_may_have_said_counts_where_anybody_is_believed() -> None:
    """Not for another part of the same host, where TLS proves who speaks."""
    tokens = Tokens()
    authenticator = Authenticator(tokens, Known(Credentials("me", SECRET)))
    authenticator.renew(Door("r.io", "r.io", "lax/a", False, insecure=True), REALM, None, "x")
    assert authenticator.authorization(Door("r.io", "r.io", "strict/a", False), "x") is None
    lax = Door("r.io", "r.io", "lax/b", False, insecure=True)
    assert authenticator.authorization(lax, "x") == f"Bearer {TOKEN}"
    assert [who for _, who in tokens.asked] == [BASIC, BASIC]


@pytest.mark.parametrize("challenge", ["Basic realm=x", 'Bearer realm="http://{}/token"'])
def test_who_is_redirected_to_gets_no_password(
    server: Server, other: Server, name: ImageName, challenge: str
) -> None:
    """Its 401 is a refusal, and nobody remembers where it would have the password sent."""
    server.answers["/v2/"] = only_with(
        BASIC, give(b"", 307, Location=f"http://{other.address}/blob"), "Basic realm=x"
    )
    other.answers["/blob"] = give(b"", 401, WWW_Authenticate=challenge.format(other.address))
    other.answers["/token"] = give(json.dumps({"token": TOKEN}).encode())
    with new_client(Credentials("me", SECRET)) as client:
        for _ in range(2):
            with pytest.raises(RegistryError, match="denies access"):
                client.blob(name, Digest.of(b"blob"))
    assert sent(server) == [None, BASIC, BASIC]
    assert (sent(other), set(other.paths)) == ([None, None], {"/blob"})


def test_a_registry_may_redirect_to_itself(server: Server, name: ImageName) -> None:
    server.answers["/v2/"] = give(b"", 307, Location="/elsewhere")
    server.answers["/elsewhere"] = only_with(BASIC, give(MANIFEST), "Basic realm=x")
    with new_client(Credentials("me", SECRET)) as client:
        assert client.manifest(name)[0] == MANIFEST


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s"', _Challenge("bearer", "https://a/t", "s")),
        ('bearer realm="https://a/t", scope="x y"', _Challenge("bearer", "https://a/t", "", "x y")),
        ("Basic", _Challenge("basic")),
        ('Basic realm="a, Bearer realm=b"', _Challenge("basic")),
        ('Basic realm="a", Bearer realm="https://a/t"', _Challenge("bearer", "https://a/t")),
        ('Bearer realm="https://a/t",BASIC realm="q"', _Challenge("bearer", "https://a/t")),
        ('Bearer realm="ftp://a/t", Basic realm="q"', _Challenge("basic")),
        ('Bearer realm="https://[::1/t"', _Challenge("bearer", "https://[::1/t")),
        ('Bearer realm="https:///t", Basic realm="q"', _Challenge("basic")),
        ('Bearer service="s"', None),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_challenges(header: str, expected: _Challenge | None) -> None:
    assert _parse(header) == expected


def test_many_threads_share_a_token(server: Server, other: Server) -> None:
    token_service(server, other, give(MANIFEST))

    def slowly(handler: Handler) -> None:
        time.sleep(0.05)
        handler.reply(200, json.dumps({"token": TOKEN}).encode())

    other.answers["/token"] = slowly
    names = [parse_name(f"{server.address}/app{number % 4}:{number}") for number in range(64)]
    with new_client() as client, ThreadPoolExecutor(16) as pool:
        assert {data for data, _ in pool.map(client.manifest, names)} == {MANIFEST}
    assert len(other.requests) == 4
