# SPDX-License-Identifier: Apache-2.0
"""The registry client with real registries: passwords, tokens, TLS of one's own, mirrors."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from requests import PreparedRequest

from podman_cvmfs.errors import RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import DOCKER_CONFIG, DOCKER_MANIFEST, Digest
from podman_cvmfs.registry import certificates, registries_files
from podman_cvmfs.registry.client import RegistryClient
from tests.support.cli import Target, podman_cvmfs
from tests.support.guarded_registry import (
    PASSWORD,
    USER,
    GuardedRegistry,
    TokenService,
    htpasswd,
    push,
)
from tests.support.http import serving
from tests.support.osg import OsgBuilt
from tests.support.stand_in import add_ducc
from tests.support.tls import Authority

CONFIG = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'
DIGEST = Digest.of(CONFIG)
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "digest": str(DIGEST), "size": len(CONFIG)},
        "layers": [],
    },
    indent=3,
).encode()
LOGIN = (USER, PASSWORD)

Start = Callable[..., GuardedRegistry]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and an /etc of our own: nothing of this host's configuration counts."""
    for variable in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable in registries_files.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(registries_files, "ADMIN", str(tmp_path / "etc"))
    certs = str(tmp_path / "etc/certs.d")
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", (certs,))
    return tmp_path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts registries, which are stopped afterwards."""
    started = []

    def starter(name: str, **options: object) -> GuardedRegistry:
        made = GuardedRegistry(tmp_path / name, **options)  # type: ignore[arg-type]
        started.append(made)
        return made

    yield starter
    for registry in started:
        registry.stop()


def image(registry: GuardedRegistry, repository: str = "group/app") -> ImageName:
    return ImageName(registry.address, repository, "1")


def configure(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def log_in(surroundings: Path, host: str, pair: str = f"{USER}:{PASSWORD}") -> None:
    """What podman login writes."""
    entry = {"auth": base64.b64encode(pair.encode()).decode()}
    configure(surroundings / "run/containers/auth.json", json.dumps({"auths": {host: entry}}))


def assert_served(name: ImageName) -> None:
    with RegistryClient(timeout=10) as client:
        assert client.manifest(name) == (MANIFEST, DOCKER_MANIFEST)
        assert client.blob(name, DIGEST) == CONFIG
        assert b"".join(client.blob_stream(name, DIGEST)) == CONFIG
        assert client.tags(name) == ("1",)
        by_digest = ImageName(name.registry, name.repository, None, Digest.of(MANIFEST))
        assert client.manifest(by_digest)[0] == MANIFEST


def bearer(token: str) -> Callable[[PreparedRequest], PreparedRequest]:
    """What requests takes for ``auth``."""

    def sign(request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def refusal(name: ImageName) -> RegistryError:
    with RegistryClient(timeout=10) as client, pytest.raises(RegistryError) as caught:
        client.manifest(name)
    return caught.value


def test_password(surroundings: Path, start: Start) -> None:
    registry = start("r", auth=htpasswd(surroundings / "auth"))
    push(f"http://{registry.address}", "group/app", "1", CONFIG, MANIFEST, auth=LOGIN)
    assert "wants a login" in refusal(image(registry)).message
    log_in(surroundings, registry.address, f"{USER}:wrong")
    assert "denies access" in refusal(image(registry)).message
    log_in(surroundings, f"{registry.address}/group")
    assert_served(image(registry))


def test_helper(surroundings: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = start("r", auth=htpasswd(surroundings / "auth"))
    push(f"http://{registry.address}", "group/app", "1", CONFIG, MANIFEST, auth=LOGIN)
    answer = json.dumps({"ServerURL": registry.address, "Username": USER, "Secret": PASSWORD})
    program = surroundings / "bin/docker-credential-test"
    configure(program, f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    helpers = {"credHelpers": {registry.address: "test"}}
    configure(surroundings / "home/.docker/config.json", json.dumps(helpers))
    assert_served(image(registry))


def test_tls(surroundings: Path, start: Start) -> None:
    authority = Authority(surroundings / "ca")
    registry = start("r", certificate=authority.issue("server"))
    url = f"https://{registry.address}"
    push(url, "group/app", "1", CONFIG, MANIFEST, verify=str(authority.certificate))
    certs = surroundings / "etc/certs.d" / registry.address
    certs.mkdir(parents=True)
    error = refusal(image(registry))
    assert isinstance(error, RegistryUnreachable)
    assert "its TLS certificate or connection is not acceptable" in error.message
    shutil.copy(authority.certificate, certs / "ca.crt")
    assert_served(image(registry))
    misnamed = start("misnamed", certificate=authority.issue("misnamed", "DNS:example.org"))
    shutil.copytree(certs, certs.parent / misnamed.address)
    assert "TLS" in refusal(image(misnamed)).message
    # Somebody else's authority is no help.
    shutil.copy(Authority(surroundings / "other").certificate, certs / "ca.crt")
    assert "TLS" in refusal(image(registry)).message


def test_tls_with_a_client_certificate(surroundings: Path, start: Start) -> None:
    authority = Authority(surroundings / "ca")
    registry = start(
        "r", certificate=authority.issue("server"), client_authority=authority.certificate
    )
    client = authority.issue("client")
    how = {"verify": str(authority.certificate), "cert": (str(client.certificate), str(client.key))}
    push(f"https://{registry.address}", "group/app", "1", CONFIG, MANIFEST, **how)
    certs = surroundings / "etc/certs.d" / registry.address
    certs.mkdir(parents=True)
    shutil.copy(authority.certificate, certs / "ca.crt")
    assert isinstance(refusal(image(registry)), RegistryUnreachable)
    shutil.copy(client.certificate, certs / "me.cert")
    shutil.copy(client.key, certs / "me.key")
    assert_served(image(registry))


@pytest.mark.parametrize("encrypted", [True, False])
def test_insecure(surroundings: Path, start: Start, encrypted: bool) -> None:
    if encrypted:
        # An authority that the client has never heard of.
        authority = Authority(surroundings / "ca")
        registry = start("r", certificate=authority.issue("server"))
        url, how = f"https://{registry.address}", {"verify": str(authority.certificate)}
    else:
        registry = start("r")
        url, how = f"http://{registry.address}", {}
    push(url, "group/app", "1", CONFIG, MANIFEST, **how)
    table = f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n'
    configure(surroundings / "etc/registries.conf", table)
    assert_served(image(registry))


def test_token(surroundings: Path, start: Start) -> None:
    certificate = Authority(surroundings / "ca").issue("tokens")
    with serving() as server:
        service = TokenService(server, certificate)
        registry = start("r", auth=service.auth)
        for repository in ("group/app", "public/app"):
            access = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
            token = service.token(access)
            push(
                f"http://{registry.address}", repository, "1", CONFIG, MANIFEST, auth=bearer(token)
            )
        # Without a login: what is public, and nothing else.
        assert_served(image(registry, "public/app"))
        assert "denies access" in refusal(image(registry)).message
        log_in(surroundings, registry.address)
        assert_served(image(registry))
        log_in(surroundings, registry.address, f"{USER}:wrong")
        assert "refuses the credentials" in refusal(image(registry)).message


def test_mirror(surroundings: Path, start: Start) -> None:
    mirror, primary = start("mirror"), start("primary")
    push(f"http://{mirror.address}", "copies/group/app", "1", CONFIG, MANIFEST)
    push(f"http://{primary.address}", "only/here", "1", CONFIG, MANIFEST)
    configure(
        surroundings / "etc/registries.conf",
        f'[[registry]]\nprefix = "registry.example.org"\nlocation = "{primary.address}"\n'
        f'[[registry.mirror]]\nlocation = "{mirror.address}/copies"\n'
        '[[registry]]\nlocation = "bad.example.org"\nblocked = true\n',
    )
    assert_served(ImageName("registry.example.org", "group/app", "1"))
    assert "/v2/group/app" not in primary.log
    assert_served(ImageName("registry.example.org", "only/here", "1"))
    assert "/v2/copies/only/here" in mirror.log
    assert "is blocked" in refusal(ImageName("bad.example.org", "x", "1")).message
    mirror.stop()
    assert_served(ImageName("registry.example.org", "only/here", "1"))
    error = refusal(ImageName("registry.example.org", "group/app", "1"))
    assert "no such image" in error.message


def test_a_sync_with_all_of_it(
    surroundings: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Password, an authority of one's own and a mirror, as podman's files tell of them."""
    authority = Authority(surroundings / "ca")
    guard = htpasswd(surroundings / "auth")
    registry = start("r", certificate=authority.issue("server"), auth=guard)
    how = {"verify": str(authority.certificate), "auth": LOGIN}
    push(f"https://{registry.address}", "copies/app", "1", CONFIG, MANIFEST, **how)
    name = ImageName("registry.example.org", "group/app", "1")
    add_ducc(surroundings / "repository", name, OsgBuilt(MANIFEST, CONFIG))
    configure(
        surroundings / "registries.conf",
        '[[registry]]\nprefix = "registry.example.org/group"\nlocation = "127.0.0.1:1/group"\n'
        f'[[registry.mirror]]\nlocation = "{registry.address}/copies"\n',
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(surroundings / "registries.conf"))
    configure(surroundings / "config.toml", 'arch = "amd64"\n[registries]\nretries = 0\n')
    monkeypatch.setenv("PODMAN_CVMFS_CONFIG", str(surroundings / "config.toml"))
    target = Target(*(surroundings / each for each in ("repository", "store", "cache")))

    def sync() -> tuple[int, dict[str, object], str]:
        argv = ("-vv", *target.argv("--format", "json"))
        done = podman_cvmfs(*argv)
        return done.returncode, json.loads(done.stdout), done.stderr

    certs = surroundings / "home/.config/containers/certs.d" / registry.address
    certs.mkdir(parents=True)
    shutil.copy(authority.certificate, certs / "ca.crt")
    code, report, errors = sync()
    assert (code, report["synthesised"]) == (6, 1), "the mirror wants a login, the registry is dead"
    log_in(surroundings, registry.address)
    code, report, errors = sync()
    assert (code, report["synthesised"], report["failed"]) == (0, 0, {}), errors
    assert list(report["moved"]) == [str(name)]  # type: ignore[call-overload]
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert PASSWORD not in errors and secret not in errors
