# SPDX-License-Identifier: Apache-2.0
"""How the registry client gets in: logins, mirrors, proxies, and patience with bounds."""

from __future__ import annotations

import base64
import email.utils
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry import patience
from podman_cvmfs.registry.access import RegistryAccess, RegistrySource
from podman_cvmfs.registry.auth import Authenticator, Door, _Challenge, _parse
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import Credentials, CredentialStore
from podman_cvmfs.registry.patience import Patience
from podman_cvmfs.registry.registries_conf import Mirror, RegistriesConf, RegistryTable
from podman_cvmfs.registry.transport import Transport
from tests.support.http import Answer, Handler, Server, give, in_turn

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST}).encode()
SECRET, TOKEN = "s3cr3t-passw0rd", "t0ken-value"
REALM = 'Bearer realm="http://tokens.example.org/token"'
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


class Known(CredentialStore):
    """A store that holds these credentials for every registry, or that part of each, and notes who
    was asked for."""

    def __init__(self, credentials: Credentials | None, part: str = "") -> None:
        super().__init__([])
        self._known = credentials
        self._part = part
        self.asked: list[str] = []

    def find(self, registry: str, repository: str) -> Credentials | None:
        self.asked.append(f"{registry}/{repository}")
        return self._known if repository.startswith(self._part) else None


pytestmark = pytest.mark.usefixtures("pauses")


def new_client(
    credentials: Credentials | None = None, conf: RegistriesConf | None = None, **options: Any
) -> RegistryClient:
    return RegistryClient(
        timeout=options.pop("timeout", 5),
        conf=conf or RegistriesConf(),
        credentials=Known(credentials),
        **options,
    )


@pytest.fixture(autouse=True)
def nothing_secret_is_said(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Holds for every test here, at the highest level of detail."""
    caplog.set_level(logging.DEBUG)
    yield
    for secret in (SECRET, TOKEN, BASIC):
        assert secret not in caplog.text


def only_with(header: str, answer: Answer, challenge: str) -> Answer:
    """``answer`` for those who send this Authorization header, else 401 with ``challenge``."""

    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization") == header:
            answer(handler)
        else:
            handler.reply(401, WWW_Authenticate=challenge)

    return guarded


def sent(server: Server) -> list[str | None]:
    return [headers.get("Authorization") for _, headers in server.requests]


# ---------------------------------------------------------------------- logins


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


def token_service(server: Server, realm: Server, answer: Answer) -> None:
    challenge = f'Bearer realm="http://{realm.address}/token",service="r"'
    server.answers["/v2/"] = only_with(f"Bearer {TOKEN}", answer, challenge)


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
    with client, pytest.raises(RegistryError, match="sends us elsewhere"):
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


# ---------------------------------------------------------------------- mirrors


def mirrored(name: ImageName, *mirrors: str, **options: Any) -> RegistriesConf:
    table = RegistryTable(
        name.registry, name.registry, mirrors=tuple(map(Mirror, mirrors)), **options
    )
    return RegistriesConf((table,))


@pytest.fixture
def dead() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def test_the_mirror_is_asked_first(server: Server, other: Server, name: ImageName) -> None:
    other.answers["/v2/mirrors/group/app/manifests/1"] = give(MANIFEST)
    conf = mirrored(name, f"{other.address}/mirrors")
    with new_client(Credentials("me", SECRET), conf) as client:
        assert client.manifest(name)[0] == MANIFEST
    assert server.requests == []


@pytest.mark.parametrize("fault", [404, 403, 500, "wrong data"])
def test_what_the_mirror_lacks_the_registry_gives(
    server: Server, other: Server, name: ImageName, dead: str, fault: int | str
) -> None:
    digest = Digest.of(b"blob")
    server.answers["/v2/"] = give(b"blob")
    other.answers["/v2/"] = give(b"bl0b", 200 if isinstance(fault, str) else fault)
    with new_client(None, mirrored(name, dead, other.address), retries=0) as client:
        assert client.blob(name, digest) == b"blob"
        if fault != "wrong data":
            assert b"".join(client.blob_stream(name, digest)) == b"blob"
    assert other.paths[0] == server.paths[0] == f"/v2/group/app/blobs/{digest}"


def test_credentials_are_the_mirrors_own(server: Server, other: Server, name: ImageName) -> None:
    other.answers["/v2/"] = only_with(BASIC, give(MANIFEST), "Basic realm=x")
    known = Known(Credentials("me", SECRET))
    conf = mirrored(name, f"{other.address}/mirrors")
    with RegistryClient(timeout=5, conf=conf, credentials=known) as client:
        client.manifest(name)
    assert known.asked == [f"{other.address}/mirrors/group/app"]


@pytest.mark.parametrize("pull", ["tag-only", "digest-only"])
def test_a_mirror_for_tags_or_digests_has_the_parts(
    server: Server, other: Server, name: ImageName, pull: str
) -> None:
    digest, child = Digest.of(b"blob"), Digest.of(MANIFEST)
    other.answers["/v2/group/app/blobs/"] = give(b"blob")
    other.answers["/v2/"] = give(MANIFEST)
    mirror = Mirror(other.address, pull=pull)
    conf = RegistriesConf((RegistryTable(name.registry, name.registry, mirrors=(mirror,)),))
    with new_client(None, conf) as client:
        assert client.blob(name, digest) == b"blob"
        assert b"".join(client.blob_stream(name, digest)) == b"blob"
        assert client.manifest(name, str(child))[0] == MANIFEST
    assert server.requests == []


def test_out_of_reach_only_if_all_are(server: Server, other: Server, dead: str) -> None:
    name = parse_name(f"{dead}/app:1")
    with new_client(None, mirrored(name, other.address)) as client:
        # The mirror answers, if only that it hasn't got this one.
        with pytest.raises(RegistryError, match=f"can't reach the registry {dead}") as caught:
            client.manifest(name)
        assert not isinstance(caught.value, RegistryUnreachable)
        other.answers["/v2/second/"] = give(MANIFEST)
        assert client.manifest(parse_name(f"{dead}/second:1"))[0] == MANIFEST
    with new_client(None, mirrored(name, dead)) as client, pytest.raises(RegistryUnreachable):
        client.manifest(name)


@pytest.mark.parametrize("status", [404, 401, 403])
@pytest.mark.parametrize("mirror", ["dead", "busy"])
def test_a_mirror_that_does_not_answer_may_have_it(
    server: Server, other: Server, name: ImageName, dead: str, mirror: str, status: int
) -> None:
    """Whatever the registry itself says, the question is open."""
    server.answers["/v2/"] = give(b"", status)
    other.answers["/v2/"] = give(b"", 429, Retry_After="3600")
    digest = Digest.of(b"blob")
    with new_client(None, mirrored(name, dead if mirror == "dead" else other.address)) as client:
        registries = RegistryAccess(lambda: client)
        found, why = registries.ask(name, lambda registry: registry.blob(name, digest))
        assert found is None and server.address in why
        assert registries.silent == {name.registry: why}
        with pytest.raises(RegistryBusy):
            list(client.blob_stream(name, digest))


def test_a_dead_part_of_a_registry_is_not_the_registry(
    server: Server, other: Server, dead: str
) -> None:
    """Nor is a registry dead whose name leads to hosts that aren't; but all that lead there are."""
    server.answers["/v2/"] = give(MANIFEST)
    conf = RegistriesConf(
        (
            RegistryTable("r.io", server.address),
            RegistryTable("r.io/dead", f"{dead}/dead"),
            RegistryTable("r.io/mirrored", dead, mirrors=(Mirror(f"{server.address}/m"),)),
            RegistryTable("s.io", dead),
            RegistryTable("r.io/blocked", dead, blocked=True),
        )
    )
    asked = []
    with new_client(None, conf) as client:
        registries = RegistryAccess(lambda: client)

        def ask(text: str) -> str:
            def question(registry: RegistrySource) -> bytes:
                asked.append(text)
                return registry.manifest(parse_name(text))[0]

            found, why = registries.ask(parse_name(text), question)
            assert found in (None, MANIFEST) and bool(why) == (found is None)
            return why

        assert "blocked" in ask("r.io/blocked/app:1") and registries.silent == {}
        assert "connection refused" in ask("r.io/dead/app:1")
        assert list(registries.silent) == ["r.io"]
        assert ask("r.io/app:1") == ask("r.io/mirrored/app:1") == ""
        assert "connection refused" in ask("r.io/dead/app:2")
        assert "connection refused" in ask("s.io/app:1")
    assert set(registries.silent) == {"r.io", "s.io"}
    assert asked == ["r.io/dead/app:1", "r.io/app:1", "r.io/mirrored/app:1"]


def test_blocked(server: Server, name: ImageName) -> None:
    with new_client(None, mirrored(name, blocked=True)) as client:
        for ask in (client.manifest, client.tags):
            with pytest.raises(RegistryError, match=r"blocked in registries\.conf"):
                ask(name)
        with pytest.raises(RegistryError, match="blocked"):
            list(client.blob_stream(name, Digest.of(b"")))
    assert server.requests == []


# ---------------------------------------------------------------------- patience


def test_pauses_grow_and_end(server: Server, name: ImageName, pauses: list[float]) -> None:
    server.answers["/v2/"] = give(b"", 503)
    with new_client(retries=5, max_pause=3) as client, pytest.raises(RegistryError, match="503"):
        client.manifest(name)
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert len(server.requests) == 6


def test_retry_after_as_a_date(server: Server, name: ImageName, pauses: list[float]) -> None:
    soon = email.utils.formatdate(time.time() + 5, usegmt=True)
    past = email.utils.formatdate(time.time() - 500, usegmt=True)
    server.answers["/v2/"] = in_turn(
        give(b"", 429, Retry_After=soon),
        give(b"", 429, Retry_After=past),
        give(b"", 429, Retry_After="soon"),
        give(MANIFEST),
    )
    with new_client(retries=3) as client:
        assert client.manifest(name)[0] == MANIFEST
    assert 3 <= pauses[0] <= 5
    assert pauses[1:] == [0.0, 2.0]


def test_who_limits_the_rate_is_left_alone(server: Server, name: ImageName) -> None:
    server.answers["/v2/group/app/manifests"] = give(b"", 429, Retry_After="3600")
    server.answers["/v2/group/app/blobs"] = give(b"blob")
    with new_client() as client:
        for number in range(20):
            with pytest.raises(RegistryError, match="limits the rate") as caught:
                client.manifest(parse_name(f"{server.address}/group/app:{number}"))
            assert not isinstance(caught.value, RegistryUnreachable)
            assert f"app:{number}: " in caught.value.message
        # A limit on manifests is none on blobs.
        assert client.blob(name, Digest.of(b"blob")) == b"blob"
    assert len(server.requests) == 2


def test_a_broken_server_is_left_alone_in_time(server: Server, name: ImageName) -> None:
    server.answers["/v2/group/app/blobs"] = give(b"", 502)
    server.answers["/v2/group/app/manifests"] = give(MANIFEST)
    with new_client(retries=1) as client:
        for _ in range(50):
            with pytest.raises(RegistryError, match="answered HTTP 502"):
                client.blob(name, Digest.of(b""))
        # Five images' troubles, two attempts each; then it is the server's.
        assert len(server.requests) == 10
        assert client.manifest(name)[0] == MANIFEST


def test_one_images_trouble_is_not_the_servers(server: Server, name: ImageName) -> None:
    bad, good = Digest.of(b"bad"), Digest.of(b"good")
    server.answers[f"/v2/group/app/blobs/{bad}"] = give(b"", 500)
    server.answers[f"/v2/group/app/blobs/{good}"] = give(b"good")
    with new_client(retries=0) as client:
        for _ in range(20):
            with pytest.raises(RegistryError, match="HTTP 500"):
                client.blob(name, bad)
            assert client.blob(name, good) == b"good"


def test_all_threads_hold_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one waits as it was told to, the others don't ask."""
    monkeypatch.setattr(patience, "pause", time.sleep)
    times: list[float] = []

    def limited(handler: Handler) -> None:
        times.append(time.monotonic())
        handler.reply(*((429, b"") if len(times) == 1 else (200, MANIFEST)), Retry_After="1")

    server.answers["/v2/"] = limited
    with new_client() as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.manifest, parse_name(f"{server.address}/app:0"))
        while not times:
            time.sleep(0.01)
        time.sleep(0.1)
        rest = [
            pool.submit(client.manifest, parse_name(f"{server.address}/app:{number}"))
            for number in range(1, 8)
        ]
        assert all(each.result()[0] == MANIFEST for each in (first, *rest))
    assert len(times) == 9
    assert min(times[1:]) - times[0] > 0.9


def test_the_rest_ends(server: Server, name: ImageName, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/v2/"] = in_turn(give(b"", 429, Retry_After="50"), give(MANIFEST))
    with new_client() as client:
        with pytest.raises(RegistryError):
            client.manifest(name)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 51)
        assert client.manifest(name)[0] == MANIFEST


def test_a_host_that_does_not_answer_is_waited_for_a_few_times() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        names = [parse_name(f"127.0.0.1:{silent.getsockname()[1]}/app:{n}") for n in range(10)]
        start = time.monotonic()
        with new_client(timeout=0.3) as client:
            for number, name in enumerate(names):
                kind = RegistryBusy if number < 2 else RegistryUnreachable
                with pytest.raises(kind, match="in time") as caught:
                    client.manifest(name)
                assert str(name) in caught.value.message
    assert time.monotonic() - start < 2


def test_a_host_that_cannot_be_connected_to_is_waited_for_once(
    name: ImageName, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def connect(*args: object, **kwargs: object) -> None:
        tries.append(args)
        raise socket.timeout("timed out")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    with new_client() as client:
        for _ in range(3):
            with pytest.raises(RegistryUnreachable, match="in time"):
                client.manifest(name)
    assert len(tries) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_token_service_that_has_enough_leaves_it_open(
    server: Server, other: Server, name: ImageName, status: int
) -> None:
    token_service(server, other, give(MANIFEST))
    other.answers["/token"] = give(b"", status, Retry_After="3600")
    with new_client() as client:
        registries = RegistryAccess(lambda: client)
        for _ in range(2):
            found, why = registries.ask(name, lambda registry: registry.manifest(name)[0])
            assert found is None and f"HTTP {status}" in why and other.address in why
        assert list(registries.silent) == [name.registry]
        other.answers["/token"] = give(b"", 400)
    with new_client() as client:
        registries = RegistryAccess(lambda: client)
        found, why = registries.ask(name, lambda registry: registry.manifest(name)[0])
        assert found is None and "token service" in why and registries.silent == {}


def test_a_token_that_comes_is_an_answer(server: Server, other: Server) -> None:
    """Those that are late now and then don't add up."""
    over = threading.Event()

    def late(handler: Handler) -> None:
        handler.close_connection = True
        over.wait(5)

    token = give(json.dumps({"token": TOKEN}).encode())
    token_service(server, other, give(MANIFEST))
    other.answers["/token"] = in_turn(late, late, token, late, late, token)
    names = [parse_name(f"{server.address}/app{number}:1") for number in range(6)]
    with new_client(timeout=0.2) as client:
        for number, name in enumerate(names):
            if number % 3 == 2:
                assert client.manifest(name)[0] == MANIFEST
            else:
                with pytest.raises(RegistryBusy, match="in time"):
                    client.manifest(name)
    over.set()


def test_a_part_is_not_taken_for_the_whole(server: Server, name: ImageName) -> None:
    def short(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(MANIFEST) + 5))
        handler.end_headers()
        handler.wfile.write(MANIFEST)
        handler.close_connection = True

    server.answers["/v2/"] = in_turn(short, short, give(MANIFEST))
    with new_client() as client:
        assert client.manifest(name)[0] == MANIFEST
        server.answers["/v2/"] = short
        with pytest.raises(RegistryError, match="broke off") as caught:
            client.manifest(name)
    # It is there, so others may be asked for.
    assert not isinstance(caught.value, RegistryUnreachable)


# ---------------------------------------------------------------------- proxies and schemes


def test_proxy(server: Server, other: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{server.address}")
    server.answers["http://registry.invalid/v2/app/manifests/1"] = give(MANIFEST)
    name = parse_name("registry.invalid/app:1")
    with new_client(insecure=True) as client:
        assert client.manifest(name)[0] == MANIFEST
        assert client.manifest(name)[0] == MANIFEST
        # Ours alone: no proxy could reach it.
        other.answers["/v2/"] = give(MANIFEST)
        assert client.manifest(parse_name(f"{other.address}/app:1"))[0] == MANIFEST
    assert len(server.requests) == 2
    monkeypatch.setenv("no_proxy", "registry.invalid")
    with new_client(insecure=True) as client, pytest.raises(RegistryUnreachable):
        client.manifest(name)


def test_the_wrong_scheme_makes_no_host_dead(
    server: Server, name: ImageName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment, in which another thread might be told so."""
    gone: list[Hashable] = []
    monkeypatch.setattr(Patience, "unreachable", lambda self, whom, error: gone.append(whom))
    server.answers["/v2/"] = give(MANIFEST)
    with new_client(insecure=True, retries=0) as client:
        assert client.manifest(name)[0] == MANIFEST
    assert gone == []


def test_a_proxys_password_is_not_told(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_PROXY", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("https_proxy", f"http://me:{SECRET}@{dead}")
    with new_client() as client, pytest.raises(RegistryUnreachable, match="proxy") as caught:
        client.manifest(parse_name("registry.invalid/app:1"))
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5h", "needs PySocks"),
        ("gopher", "the proxy address is not valid"),
    ],
)
def test_a_proxy_that_cannot_be_used_leaves_it_open(
    dead: str, monkeypatch: pytest.MonkeyPatch, proxy: str, message: str
) -> None:
    for variable in ("NO_PROXY", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("https_proxy", f"{proxy}://me:{SECRET}@{dead}")

    def without_pysocks(*args: object, **options: object) -> None:
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    # As requests itself has it where PySocks isn't there.
    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", without_pysocks)
    name = parse_name("registry.invalid/app:1")
    with new_client() as client:
        registries = RegistryAccess(lambda: client)
        found, why = registries.ask(name, lambda registry: registry.manifest(name)[0])
    assert found is None and message in why and SECRET not in why
    assert registries.silent == {name.registry: why}


def test_signed_addresses_are_not_logged(
    server: Server, other: Server, name: ImageName, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers["/v2/"] = give(b"", 307, Location=f"http://{other.address}/b?signature={SECRET}")
    other.answers["/b"] = give(b"blob")
    with new_client() as client:
        assert client.blob(name, Digest.of(b"blob")) == b"blob"
    assert "/b" in caplog.text


def test_netrc_is_left_alone_after_a_redirect(
    server: Server, other: Server, name: ImageName, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text(f"machine localhost login me password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.answers["/v2/"] = give(b"", 307, Location=f"http://localhost:{other.server_port}/b")
    other.answers["/b"] = give(b"blob")
    with new_client() as client:
        assert client.blob(name, Digest.of(b"blob")) == b"blob"
    assert sent(other) == [None]


# ---------------------------------------------------------------------- tags


def test_tags_in_pages(server: Server, name: ImageName) -> None:
    def page(handler: Handler) -> None:
        last = parse_qs(handler.path.partition("?")[2]).get("last", [""])[0]
        pages = {"": ["1", "2"], "2": ["2", "3", "no tag", 5], "3": None}
        link = {"": "2", "2": "3"}.get(last)
        headers = {"Link": f'</v2/elsewhere?last={link}&n=2>; rel="next"'} if link else {}
        handler.reply(200, json.dumps({"tags": pages[last]}).encode(), **headers)

    server.answers["/v2/group/app/tags/list"] = page
    with new_client() as client:
        assert client.tags(name) == ("1", "2", "3")
    assert len(server.requests) == 3


def test_tags_without_end(server: Server, name: ImageName) -> None:
    answer = json.dumps({"tags": ["a"]}).encode()
    server.answers["/v2/"] = give(answer, Link='</v2/x?last=a>; rel="next"')
    with new_client() as client:
        assert client.tags(name) == ("a",)
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [b"", b'{"tags": 5}', b'{"tags": {"a": 1}}'])
def test_what_is_no_list_of_tags(server: Server, name: ImageName, body: bytes) -> None:
    server.answers["/v2/"] = give(body)
    with new_client() as client, pytest.raises(RegistryError, match="tag list"):
        client.tags(name)
