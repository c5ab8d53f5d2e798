# SPDX-License-Identifier: Apache-2.0
"""The registry client against small servers on loopback that do whatever a registry may do."""

from __future__ import annotations

import hashlib
import socket
import threading

import pytest

from podman_cvmfs.errors import NotInRegistry, RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry import transport
from podman_cvmfs.registry.addresses import is_loopback
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.endpoint import host_of
from podman_cvmfs.registry.registries_conf import RegistriesConf
from tests.support.http import Handler, Server, give, in_turn
from tests.support.small_client import BLOB, DIGEST, MANIFEST, new_client

pytestmark = pytest.mark.usefixtures("pauses")


# ---------------------------------------------------------------------- manifests and blobs


def test_manifest(server: Server, client: RegistryClient, name: ImageName) -> None:
    server.answers["/v2/group/app/manifests/1"] = give(
        MANIFEST, Content_Type=f"{documents.OCI_MANIFEST}; charset=utf-8"
    )
    assert client.manifest(name) == (MANIFEST, documents.OCI_MANIFEST)
    accept = server.requests[0][1]["Accept"]
    assert all(
        kind in accept
        for kind in (
            documents.OCI_MANIFEST,
            documents.OCI_INDEX,
            documents.DOCKER_MANIFEST,
            documents.DOCKER_LIST,
        )
    )
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_media_type_from_the_document(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    server.answers["/v2/"] = give(MANIFEST, Content_Type="text/plain")
    assert client.manifest(name)[1] == documents.OCI_MANIFEST
    server.answers["/v2/"] = give(b"no JSON", Content_Type="text/plain")
    assert client.manifest(name) == (b"no JSON", "text/plain")


def test_manifest_by_digest_is_checked(server: Server, client: RegistryClient) -> None:
    name = parse_name(f"{server.address}/app@{DIGEST}")
    server.answers[f"/v2/app/manifests/{DIGEST}"] = give(MANIFEST)
    assert client.manifest(name)[0] == MANIFEST
    server.answers[f"/v2/app/manifests/{DIGEST}"] = give(MANIFEST + b" ")
    with pytest.raises(RegistryError, match="wrong data"):
        client.manifest(name)


def test_digest_wins_over_tag(server: Server, client: RegistryClient) -> None:
    server.answers[f"/v2/app/manifests/{DIGEST}"] = give(MANIFEST)
    assert client.manifest(parse_name(f"{server.address}/app:1@{DIGEST}"))[0] == MANIFEST
    assert client.manifest(parse_name(f"{server.address}/app:1"), str(DIGEST))[0] == MANIFEST


def test_blob(server: Server, client: RegistryClient, name: ImageName) -> None:
    digest = Digest.of(BLOB)
    server.answers[f"/v2/group/app/blobs/{digest}"] = give(BLOB)
    assert client.blob(name, digest) == BLOB
    with pytest.raises(RegistryError, match="exceeds 1000 bytes"):
        client.blob(name, digest, 1000)
    server.answers[f"/v2/group/app/blobs/{digest}"] = give(BLOB[:-1] + b"x")
    with pytest.raises(RegistryError, match="wrong data"):
        client.blob(name, digest)


def test_manifest_size_is_limited(server: Server, client: RegistryClient, name: ImageName) -> None:
    server.answers["/v2/"] = give(b" " * (documents.MAX_DOCUMENT + 1))
    with pytest.raises(RegistryError, match="exceeds"):
        client.manifest(name)


def test_blob_stream(server: Server, client: RegistryClient, name: ImageName) -> None:
    digest = Digest.of(BLOB)
    server.answers["/v2/"] = give(BLOB, Content_Encoding="gzip")
    chunks = list(client.blob_stream(name, digest))
    assert hashlib.sha256(b"".join(chunks)).hexdigest() == digest.hex
    assert len(chunks) > 1


def broken(handler: Handler) -> None:
    """Announce all, send a part, hang up; go on from there if asked."""
    spec = handler.headers.get("Range")
    start = int(spec[len("bytes=") : -1]) if spec else 0
    rest = BLOB[start:]
    handler.send_response(206 if spec else 200)
    handler.send_header("Content-Length", str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest[:500_000])
    handler.wfile.flush()
    if len(rest) > 500_000:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True


def test_a_broken_blob_stream_goes_on(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    server.answers["/v2/"] = broken
    assert b"".join(client.blob_stream(name, Digest.of(BLOB))) == BLOB
    assert len(server.requests) == 3


def test_a_blob_stream_that_cannot_go_on(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    def always_from_the_start(handler: Handler) -> None:
        del handler.headers["Range"]
        broken(handler)

    server.answers["/v2/"] = always_from_the_start
    with pytest.raises(RegistryError, match="broke off"):
        list(client.blob_stream(name, Digest.of(BLOB)))


# ---------------------------------------------------------------------- failures in words


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "wants a login"),
        (403, "denies access"),
        (404, "no such image"),
        (500, "HTTP 500"),
        (429, "limits the rate"),
        (418, "HTTP 418"),
        (204, "HTTP 204"),
    ],
)
def test_refusals(
    server: Server, client: RegistryClient, name: ImageName, status: int, message: str
) -> None:
    server.answers["/v2/"] = give(b"\x1b[31mred", status)
    with pytest.raises(RegistryError, match=message) as caught:
        client.manifest(name)
    assert not isinstance(caught.value, RegistryUnreachable)
    assert isinstance(caught.value, NotInRegistry) == (status == 404)
    assert str(name) in caught.value.message
    assert caught.value.message.isprintable()


def test_no_such_blob(client: RegistryClient, name: ImageName) -> None:
    with pytest.raises(RegistryError, match="no such blob"):
        client.blob(name, DIGEST)


def test_connection_refused(client: RegistryClient, pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        name = parse_name(f"127.0.0.1:{unused.getsockname()[1]}/a:1")
        with pytest.raises(RegistryUnreachable, match="connection refused") as caught:
            client.manifest(name)
    assert name.registry in caught.value.message
    assert pauses == []


def test_no_such_host(client: RegistryClient) -> None:
    with pytest.raises(RegistryUnreachable, match="no such host"):
        client.manifest(parse_name("registry.invalid/a:1"))


def test_timeout(server: Server, name: ImageName) -> None:
    done = threading.Event()

    def wait(handler: Handler) -> None:
        done.wait(10)

    server.answers["/v2/"] = wait
    with new_client(timeout=0.1) as client, pytest.raises(RegistryBusy, match="in time"):
        client.manifest(name)
    done.set()


def test_no_tls(client: RegistryClient, name: ImageName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "is_loopback", lambda host: False)
    with pytest.raises(RegistryUnreachable, match="TLS"):
        client.manifest(name)


def test_insecure_is_plain_http(
    server: Server, name: ImageName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "is_loopback", lambda host: False)
    server.answers["/v2/"] = give(MANIFEST)
    with new_client(insecure=True) as client:
        assert client.manifest(name)[0] == MANIFEST


# ---------------------------------------------------------------------- trying again


@pytest.mark.parametrize("status", [500, 503, 429])
def test_trouble_passes(
    server: Server, client: RegistryClient, name: ImageName, pauses: list[float], status: int
) -> None:
    server.answers["/v2/"] = in_turn(give(b"", status, Retry_After="7"), give(MANIFEST))
    assert client.manifest(name)[0] == MANIFEST
    assert pauses == [7.0]


def test_a_long_pause_is_a_refusal(
    server: Server, client: RegistryClient, name: ImageName, pauses: list[float]
) -> None:
    server.answers["/v2/"] = give(b"", 429, Retry_After="3600")
    with pytest.raises(RegistryError, match="rate"):
        client.manifest(name)
    assert (pauses, len(server.requests)) == ([], 1)


def test_tries_are_bounded(
    server: Server, client: RegistryClient, name: ImageName, pauses: list[float]
) -> None:
    server.answers["/v2/"] = give(b"", 502)
    with pytest.raises(RegistryError, match="HTTP 502"):
        client.manifest(name)
    assert len(server.requests) == 3


def test_a_connection_that_breaks_is_made_again(
    server: Server, client: RegistryClient, name: ImageName
) -> None:
    def hang_up(handler: Handler) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    server.answers["/v2/"] = in_turn(hang_up, give(MANIFEST))
    assert client.manifest(name)[0] == MANIFEST


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:80", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("example.org", False),
        ("127.0.0.1.example.org", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("[::1", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "registry_name", ["docker.io", "registry.hub.docker.com", "index.docker.io"]
)
def test_docker_hub(registry_name: str) -> None:
    name = ImageName(registry_name, "debian", "12")
    [endpoint] = RegistriesConf().endpoints(name)
    assert host_of(endpoint) == "registry-1.docker.io"
    assert endpoint.name.repository == "library/debian"
    [endpoint] = RegistriesConf().endpoints(ImageName("quay.io", "a", "1"))
    assert (host_of(endpoint), endpoint.name.repository) == ("quay.io", "a")
