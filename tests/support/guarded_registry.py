# SPDX-License-Identifier: Apache-2.0
"""A real registry on loopback that wants TLS, a password, or a token from a service of ours."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from tests.support.http import Handler, Server
from tests.support.tls import Certificate

USER, PASSWORD = "me", "open sesame"
#: bcrypt of PASSWORD, the only form that docker-registry takes.
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
_START_SECONDS = 20


class GuardedRegistry:
    """docker-registry below ``root``, until ``stop``.

    ``certificate`` makes it speak TLS, ``client_authority`` demand a client's certificate;
    ``auth`` is the ``auth`` section of its configuration.
    """

    def __init__(
        self,
        root: Path,
        certificate: Certificate | None = None,
        client_authority: Path | None = None,
        auth: dict[str, Any] | None = None,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        http: dict[str, Any] = {"addr": self.address}
        if certificate is not None:
            http["tls"] = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
            if client_authority is not None:
                http["tls"]["clientcas"] = [str(client_authority)]
        config = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
            "http": http,
            **({"auth": auth} if auth else {}),
        }
        # JSON is YAML.
        (root / "config.yml").write_text(json.dumps(config))
        self._log = root / "log"
        binary = shutil.which("docker-registry") or "/usr/bin/docker-registry"
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [binary, "serve", str(root / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        host, _, port = self.address.partition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    said = self._log.read_text(errors="replace")[-1000:]
                    raise RuntimeError(f"docker-registry doesn't start: {said}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop serving."""
        self._process.terminate()
        self._process.wait(timeout=20)

    @property
    def log(self) -> str:
        """The access log and the errors so far."""
        return self._log.read_text(errors="replace")


def htpasswd(directory: Path) -> dict[str, Any]:
    """The ``auth`` section for basic authentication with USER and PASSWORD."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "htpasswd").write_text(_HTPASSWD)
    return {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}


def push(url: str, repository: str, tag: str, blob: bytes, manifest: bytes, **how: Any) -> None:
    """Upload a blob and a Docker manifest; ``how`` goes to requests (auth, verify, cert, ..)."""
    from podman_cvmfs.oci.documents import DOCKER_MANIFEST, Digest

    with requests.Session() as session:
        begun = session.post(f"{url}/v2/{repository}/blobs/uploads/", timeout=30, **how)
        begun.raise_for_status()
        session.put(
            begun.headers["Location"],
            params={"digest": str(Digest.of(blob))},
            data=blob,
            headers={"Content-Type": "application/octet-stream"},
            timeout=30,
            **how,
        ).raise_for_status()
        session.put(
            f"{url}/v2/{repository}/manifests/{tag}",
            data=manifest,
            headers={"Content-Type": DOCKER_MANIFEST},
            timeout=30,
            **how,
        ).raise_for_status()


class TokenService:
    """Issues tokens that docker-registry believes, as answers of ``server``.

    Whoever gives USER and PASSWORD may pull and push, anybody else may pull ``public/``.
    """

    def __init__(self, server: Server, certificate: Certificate) -> None:
        self._certificate = certificate
        self.realm = f"http://{server.address}/token"
        server.answers["/token"] = self._answer

    @property
    def auth(self) -> dict[str, Any]:
        """The ``auth`` section for a registry that sends its users here."""
        bundle = str(self._certificate.certificate)
        return {
            "token": {
                "realm": self.realm,
                "service": "test registry",
                "issuer": "test issuer",
                "rootcertbundle": bundle,
            }
        }

    def _answer(self, handler: Handler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = handler.headers.get("Authorization")
        if given is not None and given != f"Basic {pair}":
            handler.reply(401)
            return
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            if given is not None or name.startswith("public/"):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        handler.reply(200, json.dumps({"token": self.token(access)}).encode())

    def token(self, access: list[dict[str, Any]]) -> str:
        """A signed token for ``access``."""
        pem = self._certificate.certificate.read_text()
        der = "".join(pem.split("-----")[2].split())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
        now = int(time.time())
        claims = {
            "iss": "test issuer",
            "sub": USER,
            "aud": "test registry",
            "nbf": now - 60,
            "exp": now + 300,
            "iat": now,
            "jti": "1",
            "access": access,
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64url(self._signature(signed.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        """ES256 (RFC 7518, 3.4): the two numbers, 32 bytes each, out of openssl's DER."""
        der = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._certificate.key)],
            input=data,
            capture_output=True,
            check=True,
        ).stdout
        numbers, rest = [], der[2:]
        for _ in range(2):
            length = rest[1]
            numbers.append(rest[2 : 2 + length].lstrip(b"\0").rjust(32, b"\0"))
            rest = rest[2 + length :]
        return b"".join(numbers)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
