# SPDX-License-Identifier: Apache-2.0
"""Pushes at the same time share a batch, and each hears of its own image."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from podman_cvmfs.errors import RepositoryError
from podman_cvmfs.names.reference import ImageName
from podman_cvmfs.publish.front.batches import Batches


def name(tag: str) -> ImageName:
    return ImageName("registry.example.org", "app", tag)


class Recorder:
    """Stands for publishing: notes the batches, waits to be let go, and fails as told."""

    def __init__(self, failures: Mapping[ImageName, str] | None = None) -> None:
        self.batches: list[list[str | None]] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._failures = failures or {}

    def __call__(self, names: Sequence[ImageName]) -> Mapping[ImageName, str]:
        self.batches.append([each.tag for each in names])
        assert self.goes_on.wait(30)
        return {each: self._failures[each] for each in names if each in self._failures}


def run(batches: Batches, work: Coroutine[Any, Any, Any]) -> Any:
    async def both() -> Any:
        worker = asyncio.create_task(batches.run())
        try:
            return await asyncio.wait_for(work, 30)
        finally:
            worker.cancel()

    return asyncio.run(both())


def test_what_comes_while_one_is_published_shares_the_next() -> None:
    recorder = Recorder({name("3"): "it is broken"})
    recorder.goes_on.clear()
    batches = Batches(recorder)

    async def work() -> list[str | None]:
        first = asyncio.create_task(batches.publish(name("1")))
        while not recorder.batches:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(batches.publish(name(tag))) for tag in ("2", "3", "2", "1")]
        await asyncio.sleep(0.05)
        recorder.goes_on.set()
        return list(await asyncio.gather(first, *others))

    # The tag 1 that was pushed again may be another image by now.
    assert run(batches, work()) == [None, None, "it is broken", None, None]
    assert recorder.batches == [["1"], ["2", "3", "1"]]
    counts = batches.counts
    assert (counts.pushes, counts.published, counts.failed, counts.batches) == (5, 3, 1, 2)


def test_an_error_of_all_is_told_to_all() -> None:
    def fail(names: Sequence[ImageName]) -> Mapping[ImageName, str]:
        raise RepositoryError("the disk is full", "make room")

    batches = Batches(fail)

    async def work() -> list[str | None]:
        return list(await asyncio.gather(*(batches.publish(name(tag)) for tag in "12")))

    assert run(batches, work()) == ["the disk is full (make room)"] * 2


def test_a_fault_of_ours_ends_nobody_s_wait() -> None:
    def fail(names: Sequence[ImageName]) -> Mapping[ImageName, str]:
        raise ZeroDivisionError("no detail of it goes to clients")

    batches = Batches(fail)
    said = run(batches, batches.publish(name("1")))
    assert said == "publishing failed: ZeroDivisionError"


def test_a_client_that_leaves_takes_nothing_from_others() -> None:
    recorder = Recorder()
    recorder.goes_on.clear()
    batches = Batches(recorder)

    async def work() -> str | None:
        leaving = asyncio.create_task(batches.publish(name("1")))
        staying = asyncio.create_task(batches.publish(name("1")))
        await asyncio.sleep(0.05)
        leaving.cancel()
        recorder.goes_on.set()
        return await staying

    assert run(batches, work()) is None
