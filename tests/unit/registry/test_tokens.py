# SPDX-License-Identifier: Apache-2.0
"""Tokens: asked for once, kept, renewed, and never taken elsewhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.client import RegistryClient
from tests.support.http import Answer, Handler, Server, give
from tests.support.small_client import BLOB, MANIFEST

pytestmark = pytest.mark.usefixtures("pauses")


SECRET = "secret-token-value"


def guard(server: Server, realm: Server, answer: Answer, scope: str = "") -> None:
    """Have ``server`` want a token from ``realm``."""

    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization") == f"Bearer {SECRET}":
            answer(handler)
        else:
            challenge = f'Bearer realm="http://{realm.address}/token?x=1",service="the registry"'
            handler.reply(401, WWW_Authenticate=challenge + scope)

    server.answers["/v2/"] = guarded


def test_token(
    server: Server,
    other: Server,
    client: RegistryClient,
    name: ImageName,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    guard(server, other, give(MANIFEST), ',scope="repository:group/app:pull"')
    other.answers["/token"] = give(json.dumps({"token": SECRET}).encode())
    for _ in range(3):
        assert client.manifest(name)[0] == MANIFEST
    [(path, _)] = other.requests
    assert path == "/token?x=1&scope=repository%3Agroup%2Fapp%3Apull&service=the+registry"
    assert SECRET not in caplog.text


def test_token_without_scope_and_under_its_other_name(
    server: Server, other: Server, client: RegistryClient, name: ImageName
) -> None:
    guard(server, other, give(MANIFEST))
    other.answers["/token"] = give(json.dumps({"access_token": SECRET}).encode())
    assert client.manifest(name)[0] == MANIFEST
    assert "scope=repository%3Agroup%2Fapp%3Apull" in other.requests[0][0]


def test_an_expired_token_is_renewed_once(
    server: Server, other: Server, client: RegistryClient, name: ImageName
) -> None:
    guard(server, other, give(MANIFEST))
    other.answers["/token"] = give(json.dumps({"token": SECRET}).encode())
    headers = client._authenticator._headers
    headers[name.registry, name.repository, False] = "Bearer expired"
    assert client.manifest(name)[0] == MANIFEST
    other.answers["/token"] = give(b'{"token": "worthless"}')
    headers.clear()
    with pytest.raises(RegistryError, match="denies access"):
        client.manifest(name)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": 5}', b'{"token": "a\\r\\nEvil: 1"}'])
def test_bad_token_service(
    server: Server, other: Server, client: RegistryClient, name: ImageName, body: bytes
) -> None:
    guard(server, other, give(MANIFEST))
    other.answers["/token"] = give(body)
    with pytest.raises(RegistryError, match="gave no token"):
        client.manifest(name)


@pytest.mark.parametrize("challenge", ["", "Basic realm=x", 'Bearer realm="file:///etc/passwd"'])
def test_challenges_we_cannot_meet(
    server: Server, client: RegistryClient, name: ImageName, challenge: str
) -> None:
    server.answers["/v2/"] = give(b"", 401, WWW_Authenticate=challenge)
    with pytest.raises(RegistryError, match=r"wants a login|bad challenge"):
        client.manifest(name)


def test_a_redirect_elsewhere_gets_no_token(
    server: Server, other: Server, client: RegistryClient, name: ImageName
) -> None:
    location = f"http://localhost:{other.server_port}/there"
    guard(server, other, lambda handler: handler.reply(307, Location=location))
    other.answers["/token"] = give(json.dumps({"token": SECRET}).encode())
    other.answers["/there"] = give(BLOB)
    assert client.blob(name, Digest.of(BLOB)) == BLOB
    [headers] = [headers for path, headers in other.requests if path == "/there"]
    assert "Authorization" not in headers


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/v2/loop"])
def test_redirects_that_lead_nowhere(
    server: Server, client: RegistryClient, name: ImageName, location: str
) -> None:
    server.answers["/v2/"] = give(b"", 307, Location=location)
    with pytest.raises(RegistryError, match="bad answer"):
        client.manifest(name)


def test_netrc_and_proxies_are_left_alone(
    server: Server,
    client: RegistryClient,
    name: ImageName,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answers["/v2/"] = give(MANIFEST)
    assert client.manifest(name)[0] == MANIFEST
    assert "Authorization" not in server.requests[0][1]


def test_many_threads(server: Server, other: Server, client: RegistryClient) -> None:
    from concurrent.futures import ThreadPoolExecutor

    guard(server, other, give(MANIFEST))
    other.answers["/token"] = give(json.dumps({"token": SECRET}).encode())
    names = [parse_name(f"{server.address}/app{number % 5}:1") for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        assert {data for data, _ in pool.map(client.manifest, names)} == {MANIFEST}
    assert len(other.requests) == 5
