# SPDX-License-Identifier: Apache-2.0
"""Gathers images that are pushed, and publishes them in batches.

While one batch is published, the images that come in wait for the next one. So many pushes at once
share a transaction of CernVM-FS.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from podman_cvmfs.errors import PodmanCvmfsError
from podman_cvmfs.names.reference import ImageName

log = logging.getLogger(__name__)

#: Publishes images, and says of each that failed why. Blocks. PodmanCvmfsError if all of them do.
Publish = Callable[[Sequence[ImageName]], Mapping[ImageName, str]]


@dataclass
class Counts:
    """What has happened since the start."""

    pushes: int = 0
    published: int = 0
    failed: int = 0
    batches: int = 0
    seconds: float = 0.0


class Batches:
    """Publishes by ``publish``, which runs in a thread, one batch after the other."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._waiting: dict[ImageName, asyncio.Future[str | None]] = {}
        self._has_come = asyncio.Event()
        self.counts = Counts()

    async def publish(self, name: ImageName) -> str | None:
        """Have the image published that now has this name; None, or why that failed."""
        # Several may wait for one image, and a client that goes away takes nothing from the others.
        return await asyncio.shield(self.begin(name))

    def begin(self, name: ImageName) -> asyncio.Future[str | None]:
        """The same, for who doesn't wait."""
        self.counts.pushes += 1
        future = self._waiting.get(name)
        if future is None:
            future = self._waiting[name] = asyncio.get_running_loop().create_future()
            self._has_come.set()
        return future

    async def run(self) -> None:
        """Publish what comes in, until this is cancelled. A batch is never broken off."""
        while True:
            await self._has_come.wait()
            self._has_come.clear()
            batch, self._waiting = self._waiting, {}
            await asyncio.shield(self._run(batch))

    async def _run(self, batch: Mapping[ImageName, asyncio.Future[str | None]]) -> None:
        begun = time.monotonic()
        failures: Mapping[ImageName, str]
        try:
            failures = await asyncio.to_thread(self._publish, list(batch))
        except PodmanCvmfsError as err:
            log.error("%s", err.line)
            failures = dict.fromkeys(batch, err.line)
        except Exception as err:
            # Whoever waits must hear something. The cause is a fault of this program.
            log.exception("publishing failed")
            failures = dict.fromkeys(batch, f"publishing failed: {type(err).__name__}")
        self.counts.batches += 1
        self.counts.seconds += time.monotonic() - begun
        self.counts.failed += len(failures)
        self.counts.published += len(batch) - len(failures)
        for name, future in batch.items():
            if not future.done():
                future.set_result(failures.get(name))
