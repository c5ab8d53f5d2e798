# SPDX-License-Identifier: Apache-2.0
"""Finds credentials in the files that ``podman login`` and ``docker login`` write.

Formats and order: containers-auth.json(5), containers/image v5.36 ``pkg/docker/config``, and the
protocol of docker-credential-helpers. An unreadable file causes one warning and counts as missing,
because most images need no login. No secret gets into messages, logs or the text of an object.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from podman_cvmfs.errors import printable
from podman_cvmfs.names.reference import DOCKER_HUB_ALIASES
from podman_cvmfs.registry.registries_conf import AUTH_FILES
from podman_cvmfs.util.foreign_file import read_bounded

log = logging.getLogger(__name__)

VARIABLE = "REGISTRY_AUTH_FILE"
#: What Docker calls its own registry towards helpers.
_DOCKER_HUB_URL = "https://index.docker.io/v1/"
_MAX_FILE = 4 * 1024 * 1024
_HELPER_SECONDS = 30
_HELPER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_NOT_FOUND = "credentials not found in native keychain"


@dataclass(frozen=True)
class Credentials:
    """A user's name and password, or an OAuth 2 refresh token instead of the two."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


@dataclass(frozen=True)
class _AuthFile:
    """One file: entries by registry or namespace, and names of helpers by registry."""

    path: str
    auths: dict[str, Any] = field(repr=False)
    helpers: dict[str, Any]
    general_helper: str | None
    is_legacy: bool


class CredentialStore:
    """Finds credentials; may be used from several threads. Files are read when first needed.

    ``helpers`` are asked in order, where ``containers-auth.json`` stands for the files.
    """

    def __init__(self, helpers: Sequence[str] = (AUTH_FILES,)) -> None:
        self._helpers = tuple(helpers)
        self._lock = threading.Lock()
        self._files: list[_AuthFile] | None = None
        self._asked: dict[tuple[str, str], Credentials | None] = {}
        self._warned: set[str] = set()

    def find(self, registry: str, repository: str) -> Credentials | None:
        """The credentials for ``repository`` at ``registry`` (host and port), None if there are
        none. The longest known part of the name counts."""
        with self._lock:
            for helper in self._helpers:
                if helper == AUTH_FILES:
                    found = self._from_files(registry, repository)
                else:
                    found = self._from_helper(helper, registry)
                if found is not None:
                    return found
            return None

    def _from_files(self, registry: str, repository: str) -> Credentials | None:
        if self._files is None:
            self._files = [file for file in map(self._read, *_places()) if file is not None]
        for file in self._files:
            found = self._from_file(file, registry, repository)
            if found is not None:
                return found
        return None

    def _from_file(self, file: _AuthFile, registry: str, repository: str) -> Credentials | None:
        for known, helper in file.helpers.items():
            if _same_registry(known, registry):
                return self._from_helper(helper, known)
        keys = [registry] if file.is_legacy else _keys(registry, repository)
        for key in keys:
            if key in file.auths:
                return self._decoded(file, key) or self._from_general(file, registry)
        for key in file.auths:
            if _same_registry(_host_of(key, file.is_legacy), registry):
                return self._decoded(file, key) or self._from_general(file, registry)
        return self._from_general(file, registry)

    def _from_general(self, file: _AuthFile, registry: str) -> Credentials | None:
        """Docker's ``credsStore``: one helper for all registries."""
        if file.general_helper is None:
            return None
        is_hub = registry in DOCKER_HUB_ALIASES
        return self._from_helper(file.general_helper, _DOCKER_HUB_URL if is_hub else registry)

    def _decoded(self, file: _AuthFile, key: str) -> Credentials | None:
        entry = file.auths[key]
        if not isinstance(entry, dict):
            self._warn(f"{printable(file.path)}: the entry {printable(key)!r} is not an object")
            return None
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credentials(identity_token=token)
        text = entry.get("auth")
        if not text:
            # Docker leaves an empty entry where a helper has the secret.
            return None
        try:
            user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, ValueError, TypeError):
            colon = ""
        if not colon:
            self._warn(f"{printable(file.path)}: the entry {printable(key)!r} is not user:password")
            return None
        return Credentials(user, password.strip("\0"))

    # ------------------------------------------------------------------ files and helpers

    def _read(self, path: str, is_legacy: bool) -> _AuthFile | None:
        shown = printable(path)
        try:
            data = read_bounded(path, _MAX_FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            self._warn(f"can't read {shown}: {err.strerror}")
            return None
        try:
            # The parser's own message would quote the text: not shown.
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self._warn(f"{shown}: not a file of credentials, ignored")
            return None
        if is_legacy:
            return _AuthFile(path, document, {}, None, True)
        auths, helpers = document.get("auths", {}), document.get("credHelpers", {})
        if not isinstance(auths, dict) or not isinstance(helpers, dict):
            self._warn(f"{shown}: not a file of credentials, ignored")
            return None
        general = document.get("credsStore")
        return _AuthFile(path, auths, helpers, general if isinstance(general, str) else None, False)

    def _from_helper(self, helper: object, server: str) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER_NAME.match(helper):
            self._warn(f"not the name of a credential helper: {printable(str(helper))[:100]!r}")
            return None
        # A helper may unlock a wallet or ask a cloud: once is enough.
        if (helper, server) not in self._asked:
            self._asked[helper, server] = self._ask(f"docker-credential-{helper}", server)
        return self._asked[helper, server]

    def _ask(self, program: str, server: str) -> Credentials | None:
        try:
            done = subprocess.run(
                [program, "get"],
                input=server.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_HELPER_SECONDS,
            )
        except OSError as err:
            self._warn(f"can't run {program}: {err.strerror}")
            return None
        except subprocess.TimeoutExpired:
            self._warn(f"{program} doesn't answer")
            return None
        if done.returncode != 0:
            if done.stdout.decode("utf-8", "replace").strip() != _NOT_FOUND:
                self._warn(f"{program} fails for {printable(server)}")
            return None
        try:
            answer = json.loads(done.stdout)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, RecursionError, KeyError, TypeError):
            user = secret = None
        if not isinstance(user, str) or not isinstance(secret, str):
            self._warn(f"{program} doesn't answer with credentials")
            return None
        return (
            Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)
        )

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)


def _places() -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """The paths of the files in order, and whether each is Docker's oldest form."""
    named = os.environ.get(VARIABLE)
    if named:
        return (named,), (False,)
    home = os.path.expanduser("~")
    run = os.environ.get("XDG_RUNTIME_DIR")
    primary = f"{run}/containers" if run else f"/run/containers/{os.getuid()}"
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
    paths = (
        f"{primary}/auth.json",
        f"{config}/containers/auth.json",
        f"{docker}/config.json",
        f"{home}/.dockercfg",
    )
    return paths, (False, False, False, True)


def _keys(registry: str, repository: str) -> Iterator[str]:
    """The possible names of an entry, from the image's own up to the registry's."""
    key = f"{registry}/{repository}"
    while "/" in key:
        yield key
        key = key.rpartition("/")[0]
    yield key


def _host_of(key: str, is_legacy: bool) -> str:
    """The registry an entry is for: keys may be URLs (``https://index.docker.io/v1/``)."""
    scheme, separator, rest = key.partition("://")
    is_url = separator and scheme in ("http", "https")
    host = rest if is_url else key
    return host.partition("/")[0] if is_url or is_legacy else host


def _same_registry(one: str, other: str) -> bool:
    """Whether two names mean the same registry: Docker Hub has several names."""
    one, other = _host_of(one, False), _host_of(other, False)
    return one == other or (one in DOCKER_HUB_ALIASES and other in DOCKER_HUB_ALIASES)
