# SPDX-License-Identifier: Apache-2.0
"""Whose certificates count when a registry, its token service and its blob store are asked.

As with podman, it is the registry's own settings that do, for all three.
"""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry import certificates, endpoint, transport
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.registry.registries_conf import RegistriesConf
from podman_cvmfs.registry.registries_file import RegistryTable
from tests.support.http import Handler, Server, give, serving
from tests.support.tls import Authority, Certificate

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST}).encode()
BLOB = b"blob"
TOKEN = "token"

pytestmark = pytest.mark.usefixtures("pauses")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Certificate:
    """For a server as for a client."""
    return authority.issue("any")


@pytest.fixture
def certs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only certs.d there is."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", (str(tmp_path / "certs.d"),))
    return tmp_path / "certs.d"


def trust(certs: Path, registry: str, authority: Authority) -> Path:
    directory = certs / registry
    directory.mkdir(parents=True)
    shutil.copy(authority.certificate, directory / "ca.crt")
    return directory


def encrypt(server: Server, issued: Certificate, clients: Authority | None = None) -> None:
    """Have ``server`` speak TLS, with none but those who have a certificate of ``clients``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)


@pytest.fixture
def servers(server: Server, other: Server) -> Iterator[tuple[Server, Server, Server]]:
    """A registry, its token service and its blob store, each on a host of its own."""
    with serving() as store:
        store.answers["/blob"] = give(BLOB)
        other.answers["/token"] = give(json.dumps({"token": TOKEN}).encode())
        realm = f"https://localhost:{other.server_port}/token"

        def answer(handler: Handler) -> None:
            if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
                handler.reply(401, WWW_Authenticate=f'Bearer realm="{realm}"')
            elif "/blobs/" in handler.path:
                handler.reply(307, Location=f"https://localhost:{store.server_port}/blob")
            else:
                handler.reply(200, MANIFEST)

        server.answers["/v2/"] = answer
        yield server, other, store


def new_client(conf: RegistriesConf | None = None) -> RegistryClient:
    return RegistryClient(
        timeout=5, retries=0, conf=conf or RegistriesConf(), credentials=CredentialStore([])
    )


@pytest.mark.parametrize("wants_client", [False, True])
def test_the_registrys_certificates(
    servers: tuple[Server, Server, Server],
    certs: Path,
    authority: Authority,
    issued: Certificate,
    name: ImageName,
    wants_client: bool,
) -> None:
    for each in servers:
        encrypt(each, issued, authority if wants_client else None)
    directory = trust(certs, name.registry, authority)
    if wants_client:
        shutil.copy(issued.certificate, directory / "me.cert")
        shutil.copy(issued.key, directory / "me.key")
    with new_client() as client:
        assert client.manifest(name)[0] == MANIFEST
        assert client.blob(name, Digest.of(BLOB)) == BLOB


def test_an_insecure_registry(
    servers: tuple[Server, Server, Server], certs: Path, issued: Certificate, name: ImageName
) -> None:
    for each in servers:
        encrypt(each, issued)
    table = RegistryTable(name.registry, name.registry, insecure=True)
    with new_client(RegistriesConf((table,))) as client:
        assert client.manifest(name)[0] == MANIFEST
        assert client.blob(name, Digest.of(BLOB)) == BLOB


def test_docker_hub_goes_by_its_name(
    server: Server,
    certs: Path,
    authority: Authority,
    issued: Certificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "_DOCKER_HUB_HOST", server.address)
    encrypt(server, issued)
    server.answers["/v2/library/debian/"] = give(MANIFEST)
    trust(certs, "docker.io", authority)
    with new_client() as client:
        assert client.manifest(parse_name("debian:12"))[0] == MANIFEST


@pytest.mark.parametrize("order", [("lax", "strict"), ("strict", "lax")])
def test_insecure_is_a_part_of_a_registry_alone(
    server: Server,
    certs: Path,
    issued: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, str],
) -> None:
    """Whatever was asked before at the same host."""
    monkeypatch.setattr(transport, "is_loopback", lambda host: False)
    encrypt(server, issued)
    server.answers["/v2/"] = give(MANIFEST)
    lax = f"{server.address}/lax"
    conf = RegistriesConf((RegistryTable(lax, lax, insecure=True),))
    answered = {}
    with new_client(conf) as client:
        for part in order:
            try:
                client.manifest(parse_name(f"{server.address}/{part}/app:1"))
                answered[part] = ""
            except RegistryError as err:
                answered[part] = err.message
    assert answered["lax"] == "" and "TLS certificate" in answered["strict"]
