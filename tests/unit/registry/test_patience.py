# SPDX-License-Identifier: Apache-2.0
"""Registries that are slow, busy or down: how long they are waited for."""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry import patience
from podman_cvmfs.registry.access import RegistryAccess
from tests.support.http import Handler, Server, give, in_turn
from tests.support.logins import MANIFEST, TOKEN, new_client, token_service

pytestmark = pytest.mark.usefixtures("pauses", "nothing_secret_is_said")


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
