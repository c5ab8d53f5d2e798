# SPDX-License-Identifier: Apache-2.0
"""Asks container registries for manifests, blobs and tags.

Protocol: OCI distribution-spec v1.1 ("Pulling manifests", "Pulling blobs", "Listing tags").
registries.conf decides where to ask: mirrors are tried first, in their order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci import documents
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.registry.answers import check, stated_type, tags_of
from podman_cvmfs.registry.auth import Authenticator
from podman_cvmfs.registry.credentials import CredentialStore
from podman_cvmfs.registry.endpoint import EndpointClient, host_of
from podman_cvmfs.registry.registries_conf import Endpoint, RegistriesConf, load_registries_conf
from podman_cvmfs.registry.transport import Transport

log = logging.getLogger(__name__)

_MANIFEST_TYPES = (
    documents.OCI_MANIFEST,
    documents.OCI_INDEX,
    documents.DOCKER_MANIFEST,
    documents.DOCKER_LIST,
)
_TAGS_A_PAGE = 1000
_MAX_TAGS = 100_000
#: Bounds on what a registry gives us to say on the next page: bytes, and fields.
_MAX_QUERY, _MAX_FIELDS = 4096, 16

T = TypeVar("T")


class RegistryClient:
    """Fetches manifests and blobs; may be used from several threads at once.

    ``timeout``, ``retries`` and ``max_pause`` are Transport's. With ``insecure`` every registry is
    taken for one that registries.conf calls insecure. ``conf`` and ``credentials`` are by default
    those of the user. Making one raises InputError for a broken registries.conf.
    """

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        max_pause: float = 10.0,
        insecure: bool = False,
        conf: RegistriesConf | None = None,
        credentials: CredentialStore | None = None,
    ) -> None:
        self._conf = load_registries_conf() if conf is None else conf
        self._insecure = insecure
        self._transport = Transport(timeout, retries, max_pause)
        if credentials is None:
            credentials = CredentialStore(self._conf.credential_helpers)
        self._authenticator = Authenticator(self._transport, credentials)

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def hosts(self, name: ImageName) -> tuple[tuple[str, bool], ...]:
        """The hosts to ask for ``name``, in order, and whether they are insecure.

        Raises RegistryError.
        """
        endpoints = self._conf.endpoints(name)
        return tuple((host_of(endpoint), self._is_insecure(endpoint)) for endpoint in endpoints)

    def manifest(self, name: ImageName, reference: str | None = None) -> tuple[bytes, str]:
        """Return the manifest or index of ``name``, byte for byte, and its media type.

        ``reference`` is a tag or digest, by default the name's digest, else its tag; bytes asked
        for by digest are checked against it. Raises RegistryError.
        """
        wanted = reference or (str(name.digest) if name.digest else name.tag) or "latest"
        by_digest = wanted.startswith("sha256:")
        accept = {"Accept": ", ".join(_MANIFEST_TYPES)}

        def ask(endpoint: Endpoint) -> tuple[bytes, str]:
            data, headers = self._at(endpoint, name).document(
                f"manifests/{wanted}", accept, "image"
            )
            media_type = headers.get("Content-Type", "").partition(";")[0].strip()
            if by_digest:
                check(name, Digest.parse(wanted), data)
            if media_type not in _MANIFEST_TYPES:
                media_type = stated_type(data) or media_type
            return data, media_type

        return self._first(name, by_digest, ask)

    def blob(self, name: ImageName, digest: Digest, limit: int = documents.MAX_DOCUMENT) -> bytes:
        """Return the blob ``digest`` of ``name``'s repository, at most ``limit`` bytes, checked.

        Raises RegistryError.
        """

        def ask(endpoint: Endpoint) -> bytes:
            data, _ = self._at(endpoint, name).document(f"blobs/{digest}", {}, "blob", limit)
            check(name, digest, data)
            return data

        return self._first(name, True, ask)

    def blob_stream(self, name: ImageName, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a blob in pieces; the caller must check size and digest.

        A broken transfer is continued where it broke off, a few times. Raises RegistryError.
        """
        failures = []
        for endpoint in self._conf.endpoints(name, True):
            has_begun = False
            try:
                for chunk in self._at(endpoint, name).stream(digest):
                    has_begun = True
                    yield chunk
                return
            except RegistryError as err:
                if has_begun:
                    raise
                failures.append(err)
        raise _summed_up(failures)

    def tags(self, name: ImageName) -> tuple[str, ...]:
        """Return all tags of ``name``'s repository, as the registry orders them.

        Raises RegistryError.
        """

        def ask(endpoint: Endpoint) -> tuple[str, ...]:
            found: dict[str, None] = {}
            path: str | None = f"tags/list?n={_TAGS_A_PAGE}"
            while path is not None:
                data, headers = self._at(endpoint, name).document(path, {}, "repository")
                links = requests.utils.parse_header_links(headers.get("Link", ""))
                following = next((link["url"] for link in links if link.get("rel") == "next"), "")
                before = len(found)
                found.update(dict.fromkeys(tags_of(data, name)))
                if len(found) > _MAX_TAGS:
                    raise RegistryError(f"{name}: the repository has more than {_MAX_TAGS} tags")
                # Only the place to go on from is taken from the link, and only if we get on.
                query = _next_page(following)
                path = f"tags/list?{query}" if query and len(found) > before else None
            return tuple(found)

        return self._first(name, False, ask)

    def _first(self, name: ImageName, by_digest: bool, ask: Callable[[Endpoint], T]) -> T:
        """The answer of the first endpoint that has the document."""
        failures = []
        for endpoint in self._conf.endpoints(name, by_digest):
            try:
                return ask(endpoint)
            except RegistryError as err:
                log.debug("%s", err.message)
                failures.append(err)
        raise _summed_up(failures)

    def _at(self, endpoint: Endpoint, name: ImageName) -> EndpointClient:
        insecure = self._is_insecure(endpoint)
        return EndpointClient(self._transport, self._authenticator, endpoint, insecure, name)

    def _is_insecure(self, endpoint: Endpoint) -> bool:
        return self._insecure or endpoint.insecure


def _next_page(link: str) -> str:
    """The query for the page to which a link in an answer leads; "" if it leads nowhere.

    A registry says by ``last=``, ``next_page=`` or a token of its own where the next page begins.
    The host and the path in the link aren't used: the page is at the same registry.
    """
    try:
        query = urlsplit(link).query
        pairs = parse_qsl(query, max_num_fields=_MAX_FIELDS) if len(query) <= _MAX_QUERY else []
    except ValueError:
        return ""
    goes_on = [(key, value) for key, value in pairs if key != "n"]
    return urlencode([("n", str(_TAGS_A_PAGE)), *goes_on]) if goes_on else ""


def _summed_up(failures: Sequence[RegistryError]) -> RegistryError:
    """The error if no endpoint has the document: that of the registry itself, the last one.

    It counts as unreachable only if all endpoints are. But a mirror without an answer may have the
    document.
    """
    last = failures[-1]
    if all(isinstance(error, RegistryUnreachable) for error in failures):
        return last
    if any(isinstance(err, (RegistryUnreachable, RegistryBusy)) for err in failures):
        return RegistryBusy(last.message, last.hint)
    return last
