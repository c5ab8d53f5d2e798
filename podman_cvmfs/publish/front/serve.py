# SPDX-License-Identifier: Apache-2.0
"""Serves the front until SIGTERM or SIGINT; a batch that has begun is finished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from aiohttp import web

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.oci.documents import Digest
from podman_cvmfs.oci.platform import Platform
from podman_cvmfs.publish.batch import Wanted, publish_all
from podman_cvmfs.publish.front.batches import Batches
from podman_cvmfs.publish.front.proxy import Front, runner
from podman_cvmfs.publish.present import held_document
from podman_cvmfs.publish.source.registry import RegistrySource
from podman_cvmfs.publish.targets import Target
from podman_cvmfs.registry.client import RegistryClient

log = logging.getLogger(__name__)


class Publisher:
    """Publishes images of the registry ``upstream`` (host and port) under the names that the front
    gives them. ``then`` is called after each batch, in the same thread."""

    def __init__(
        self,
        upstream: str,
        client: RegistryClient,
        target: Target,
        platform: Platform,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._target = target
        self._platform = platform
        self._then = then

    def __call__(self, names: Sequence[ImageName]) -> Mapping[ImageName, str]:
        """Publish; why an image failed. Raises PodmanCvmfsError if nothing could be published."""
        outcomes = list(publish_all([self._wanted(name) for name in names], self._target))
        failures = {}
        for name, outcome in zip(names, outcomes):
            if outcome.error is not None:
                failures[name] = outcome.error.line
            elif outcome.published is not None:
                word = "published" if outcome.published.changed else "unchanged"
                log.info("%s: %s", name, word)
        self._then()
        return failures

    def _wanted(self, name: ImageName) -> Wanted:
        def held(name: ImageName, digest: Digest) -> bytes | None:
            return held_document(self._target.directory, self._target.below, name, digest)

        asked = replace(name, registry=self._upstream)
        source = RegistrySource(self._client, asked, name, self._platform, held)
        return Wanted(str(name), lambda: source)


async def serve(
    front: Callable[[Batches], Front],
    publisher: Publisher,
    address: tuple[str, int],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until a signal. Raises InputError if the address can't be used."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    batches = Batches(publisher)
    served = runner(front(batches))
    await served.setup()
    worker = asyncio.create_task(batches.run())
    try:
        try:
            await web.TCPSite(served, *address, ssl_context=tls).start()
        except OSError as err:
            host, port = address
            raise InputError(f"can't listen on {printable(host)}:{port}: {err.strerror}") from None
        log.info("listening on %s:%d", *address)
        await stop.wait()
    finally:
        # Those who wait for an image get their answer first.
        await served.cleanup()
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
