# SPDX-License-Identifier: Apache-2.0
"""Proxies, schemes, and addresses that only look like the registry."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import requests

from podman_cvmfs.errors import RegistryUnreachable
from podman_cvmfs.names.reference import ImageName, parse_name
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.access import RegistryAccess
from podman_cvmfs.registry.patience import Patience
from tests.support.http import Server, give
from tests.support.logins import MANIFEST, SECRET, new_client, sent

pytestmark = pytest.mark.usefixtures("pauses", "nothing_secret_is_said")


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
