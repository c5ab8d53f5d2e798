# SPDX-License-Identifier: Apache-2.0
"""Asks registries during a sync, and stops asking those that can't be reached."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol, TypeVar

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest

log = logging.getLogger(__name__)

T = TypeVar("T")


class RegistrySource(Protocol):
    """A client of registries, for documents that neither cache nor repository have."""

    def hosts(self, name: ImageName) -> Sequence[Hashable]:
        """The hosts that it asks for ``name``, in order: mirrors, then the registry. Raises
        RegistryError."""

    def blob(self, name: ImageName, digest: Digest) -> bytes:
        """The blob with ``digest``, checked. Raises RegistryError."""

    def blob_stream(self, name: ImageName, digest: Digest) -> Iterator[bytes]:
        """The blob with ``digest`` in pieces, not checked. Raises RegistryError."""

    def manifest(self, name: ImageName, reference: str | None = None) -> tuple[bytes, str]:
        """The manifest or index at a tag or digest, and its media type. Raises RegistryError."""


class RegistryAccess:
    """The registries of one sync; safe to use from several threads.

    ``make`` makes the client when one is needed; it is None when offline. An unreachable host is
    not asked again as long as this object lives. ``silent`` maps registries without an answer, by
    their names in image names, to the reason; ``left_open`` says which images were in question.
    """

    def __init__(self, make: Callable[[], RegistrySource] | None) -> None:
        self._make = make
        self._client: RegistrySource | None = None
        self._down: dict[Hashable, str] = {}
        self.silent: dict[str, str] = {}
        self._open: set[ImageName] = set()
        self._lock = threading.Lock()

    @property
    def is_offline(self) -> bool:
        """Whether no registry may be asked."""
        return self._make is None

    def ask(self, name: ImageName, question: Callable[[RegistrySource], T]) -> tuple[T | None, str]:
        """The answer of the registry of ``name``, or None and why there is none."""
        if self._make is None:
            return None, "the registry was left out (--offline)"
        with self._lock:
            # Made on demand: the libraries behind it take longer to load than a no-op sync.
            self._client = self._client or self._make()
        try:
            return self._answer(self._client, name, question), ""
        except (RegistryUnreachable, RegistryBusy) as err:
            with self._lock:
                self.silent.setdefault(name.canonical.registry, err.message)
                self._open.add(name)
            return None, err.message
        except RegistryError as err:
            return None, err.message

    def left_open(self, name: ImageName) -> bool:
        """Whether a question about ``name`` got no answer. A later sync may get one."""
        return name in self._open

    def _answer(
        self, client: RegistrySource, name: ImageName, question: Callable[[RegistrySource], T]
    ) -> T:
        # Parts of a registry may be elsewhere: one of them that is down says nothing of others.
        hosts = client.hosts(name)
        if all(host in self._down for host in hosts):
            raise RegistryUnreachable(self._down[hosts[-1]])
        try:
            return question(client)
        except RegistryUnreachable as err:
            with self._lock:
                is_known = all(host in self._down for host in hosts)
                self._down.update(dict.fromkeys(hosts, err.message))
            if not is_known:
                log.warning("%s", err.message)
            raise
