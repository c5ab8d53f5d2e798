# SPDX-License-Identifier: Apache-2.0
"""A registry client with logins, and servers that want some."""

from __future__ import annotations

import base64
import json
from typing import Any

from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci import documents
from podman_cvmfs.registry.client import RegistryClient
from podman_cvmfs.registry.credentials import Credentials, CredentialStore
from podman_cvmfs.registry.registries_conf import RegistriesConf
from podman_cvmfs.registry.registries_file import Mirror, RegistryTable
from tests.support.http import Answer, Handler, Server

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST}).encode()
SECRET, TOKEN = "s3cr3t-passw0rd", "t0ken-value"
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


def new_client(
    credentials: Credentials | None = None, conf: RegistriesConf | None = None, **options: Any
) -> RegistryClient:
    """A client that knows nothing of this host."""
    return RegistryClient(
        timeout=options.pop("timeout", 5),
        conf=conf or RegistriesConf(),
        credentials=Known(credentials),
        **options,
    )


def only_with(header: str, answer: Answer, challenge: str) -> Answer:
    """``answer`` for those who send this Authorization header, else 401 with ``challenge``."""

    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization") == header:
            answer(handler)
        else:
            handler.reply(401, WWW_Authenticate=challenge)

    return guarded


def sent(server: Server) -> list[str | None]:
    """What came as Authorization, request by request."""
    return [headers.get("Authorization") for _, headers in server.requests]


def token_service(server: Server, realm: Server, answer: Answer) -> None:
    """Have ``server`` want a token from ``realm``."""
    challenge = f'Bearer realm="http://{realm.address}/token",service="r"'
    server.answers["/v2/"] = only_with(f"Bearer {TOKEN}", answer, challenge)


def mirrored(name: ImageName, *mirrors: str, **options: Any) -> RegistriesConf:
    """Mirrors of the registry of ``name``."""
    table = RegistryTable(
        name.registry, name.registry, mirrors=tuple(map(Mirror, mirrors)), **options
    )
    return RegistriesConf((table,))
