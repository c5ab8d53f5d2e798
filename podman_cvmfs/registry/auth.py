# SPDX-License-Identifier: Apache-2.0
"""Logs in to registries: basic authentication and tokens.

Protocol: RFC 7235 challenges; the token authentication of the Docker registry ("Token
Authentication Specification" and "OAuth 2 Token Authentication").
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace

from podman_cvmfs.errors import InputError, RegistryError, printable
from podman_cvmfs.oci import documents
from podman_cvmfs.registry.addresses import (
    Distance,
    ForbiddenAddressError,
    check_distance,
    distance_by_name,
    is_loopback,
    parse_address,
)
from podman_cvmfs.registry.credentials import Credentials, CredentialStore
from podman_cvmfs.registry.failures import refused
from podman_cvmfs.registry.transport import Transport

_SCHEME = re.compile(r"(?:^|,)\s*(bearer|basic)(?=\s|$)", re.IGNORECASE)
_PARAMETER = re.compile(r'([a-zA-Z]+)=(?:"([^"]*)"|([^\s,"]+))')
_MAX_TOKEN = 1024 * 1024
_CLIENT_ID = "podman-cvmfs"


@dataclass(frozen=True)
class _Challenge:
    """A registry's demand: ``scheme`` is bearer or basic; the rest is for tokens."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Door:
    """A place that wants a login: the host asked, and the name for finding credentials.

    ``is_encrypted`` says whether the connection uses TLS. ``distance`` is how near the host is; its
    token service must not be nearer.
    """

    host: str
    registry: str
    repository: str
    is_encrypted: bool
    insecure: bool = False
    distance: Distance = Distance.ELSEWHERE


class Authenticator:
    """Keeps the tokens and passwords for registries; may be used from several threads at once.

    One thread asks for a token. Others that need the same token wait for it.
    """

    def __init__(self, transport: Transport, credentials: CredentialStore) -> None:
        self._transport = transport
        self._credentials = credentials
        self._headers: dict[tuple[str, str, bool], str] = {}
        #: By host and "insecure": what is wanted, and the door where that was said.
        self._challenges: dict[tuple[str, bool], tuple[_Challenge, Door]] = {}
        self._locks: dict[tuple[str, str, bool], threading.Lock] = {}

    def authorization(self, door: Door, subject: str) -> str | None:
        """The header to send, None as long as the registry hasn't asked for one.

        A registry that has asked once will ask again, so sending the header at once saves a
        request. But here a missing password may not be needed. Raises RegistryError.
        """
        key = (door.host, door.repository, door.insecure)
        header = self._headers.get(key)
        challenge, said = self._challenges.get((door.host, door.insecure), (None, door))
        if header is not None or challenge is None:
            return header
        if challenge.scheme == "basic" and self._password(door) is None:
            return None
        door = replace(door, is_encrypted=said.is_encrypted, distance=said.distance)
        with self._locks.setdefault(key, threading.Lock()):
            if key not in self._headers:
                self._headers[key] = self._answer(door, challenge, subject)
            return self._headers[key]

    def renew(self, door: Door, challenge: str, rejected: str | None, subject: str) -> str:
        """The header that meets the ``challenge`` (a WWW-Authenticate header) to a request that
        was sent with the header ``rejected``. Raises RegistryError."""
        key = (door.host, door.repository, door.insecure)
        with self._locks.setdefault(key, threading.Lock()):
            current = self._headers.get(key)
            if current is not None and current != rejected:
                return current
            parsed = _parse(challenge)
            if parsed is None:
                raise _wants_login(subject, door)
            header = self._answer(door, parsed, subject)
            self._headers[key] = header
            # The scope is this repository's: the next one has its own.
            general = _Challenge(parsed.scheme, parsed.realm, parsed.service)
            self._challenges[door.host, door.insecure] = (general, door)
            return header

    def _answer(self, door: Door, challenge: _Challenge, subject: str) -> str:
        if challenge.scheme == "basic":
            password = self._password(door)
            if password is None:
                raise _wants_login(subject, door)
            return password.basic()
        credentials = self._credentials.find(door.registry, door.repository)
        return f"Bearer {self._token(door, challenge, credentials, subject)}"

    def _password(self, door: Door) -> Credentials | None:
        found = self._credentials.find(door.registry, door.repository)
        return None if found is None or found.identity_token else found

    def _token(
        self, door: Door, challenge: _Challenge, credentials: Credentials | None, subject: str
    ) -> str:
        try:
            realm = parse_address(challenge.realm)
            check_distance(distance_by_name(realm.host), door.distance)
        except ForbiddenAddressError as err:
            text = f"{subject}: bad challenge of {door.host}: {err}"
            raise RegistryError(text, err.hint) from None
        host = realm.authority
        if credentials and realm.scheme == "http" and door.is_encrypted and not is_loopback(host):
            raise RegistryError(
                f"{subject}: {door.host} wants the password sent unencrypted to {printable(host)}"
            )
        values = {"scope": challenge.scope or f"repository:{door.repository}:pull"}
        if challenge.service:
            values["service"] = challenge.service
        if credentials is not None and credentials.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            method, parameters, form = "POST", None, {**values, **grant, "client_id": _CLIENT_ID}
            authorization = None
        else:
            method, parameters, form = "GET", values, None
            authorization = None if credentials is None else credentials.basic()
        response = self._transport.request(
            method,
            challenge.realm,
            subject,
            registry=door.registry,
            insecure=door.insecure,
            authorization=authorization,
            parameters=parameters,
            form=form,
            allowed=door.distance,
            kind="token",
        )
        with response:
            if response.status_code in (401, 403) and credentials is not None:
                raise RegistryError(
                    f"{subject}: {printable(host)} refuses the credentials for {door.registry}",
                    f"log in again: podman login {door.registry}",
                )
            if response.status_code == 429 or response.status_code >= 500:
                raise refused(subject, host, response.status_code)
            if response.status_code != 200:
                raise RegistryError(
                    f"{subject}: the token service {printable(host)} answered "
                    f"HTTP {response.status_code}",
                    "the image doesn't exist, or needs a login",
                )
            data = self._transport.body(response, subject, host, _MAX_TOKEN)
            self._transport.answered(host, "token", registry=door.registry, insecure=door.insecure)
            return _checked(data, subject)


def _wants_login(subject: str, door: Door) -> RegistryError:
    return RegistryError(
        f"{subject}: {door.host} wants a login", f"log in with: podman login {door.registry}"
    )


def _parse(header: str) -> _Challenge | None:
    """The challenge to answer, a token before a password; None if we can't answer any.

    A token challenge with a bad address comes last, and is then refused with a message.
    """
    marks = list(_SCHEME.finditer(header))
    ends = [mark.start() for mark in marks[1:]] + [len(header)]
    found: dict[str, _Challenge] = {}
    for mark, end in zip(marks, ends):
        scheme = mark.group(1).lower()
        pairs = _PARAMETER.findall(header[mark.end() : end])
        values = {key.lower(): quoted or bare for key, quoted, bare in pairs}
        if scheme == "basic":
            found[scheme] = _Challenge(scheme)
            continue
        challenge = _Challenge(
            scheme, values.get("realm", ""), values.get("service", ""), values.get("scope", "")
        )
        if not challenge.realm:
            continue
        found[scheme if _is_good(challenge) else ""] = challenge
    return found.get("bearer") or found.get("basic") or found.get("")


def _is_good(challenge: _Challenge) -> bool:
    try:
        parse_address(challenge.realm)
    except ForbiddenAddressError:
        return False
    return True


def _checked(data: bytes, subject: str) -> str:
    try:
        document = documents.parse_json(data, "token")
    except InputError:
        document = None
    if isinstance(document, dict):
        token = document.get("token") or document.get("access_token")
        # Only what can stand in a header: a line break in it would forge another one.
        if isinstance(token, str) and token.isascii() and token.isprintable():
            return token
    raise RegistryError(f"{subject}: the registry's token service gave no token")
