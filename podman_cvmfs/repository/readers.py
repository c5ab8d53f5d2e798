# SPDX-License-Identifier: Apache-2.0
"""The threads that read repositories: only a few at a time, and they don't keep the process from
ending.

An executor of the standard library waits for its threads at the end of the process, and a read of a
dead server lasts for seconds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: So many reads of repositories are under way at once, where each may wait for the network. A
#: CernVM-FS client has 10 threads (libfuse 3.12 and later); if all were taken up by fetches, a
#: container that starts beside could hang the machine (see ``resolve.skeleton``).
READERS = 8
#: A few reads from a local disk or a warm cache take less, in seconds.
_SLOW = 0.01
#: How often the one who waits looks up, in seconds.
_LOOK_UP = 0.5
#: After an interrupt, work under way may end within so many seconds.
_LAST_WORK = 0.5


class _Job:
    """One call of ``work`` in some thread."""

    def __init__(self, work: Callable[[Any], Any], item: Any) -> None:
        self._work, self._item = work, item
        self.done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._work(self._item)
        except BaseException as err:
            self._error = err
        self.done.set()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


class Readers:
    """The threads of one sync, or one examination. Work may give them more work.

    ``is_slow`` says that reads are known to wait for a network.
    """

    def __init__(self, is_slow: bool = False) -> None:
        self._queue: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._is_slow = is_slow

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        instead: Callable[[T, float], R | None] | None = None,
    ) -> Iterator[R]:
        """Yield the results of ``work`` in order, or raise what it raises.

        It is done one by one until something is slow: reads that don't wait for a network gain
        nothing from threads, and threads cost more than such reads. ``instead`` is asked now and
        then while a result is waited for, with the item and the seconds; what it returns, unless
        None, is taken for the result, and the work is left to itself.
        """
        pending = iter(items)
        while not self._is_slow:
            start = time.monotonic()
            for item in pending:
                result = work(item)
                break
            else:
                return
            self._is_slow = self._is_slow or time.monotonic() - start > _SLOW
            yield result
        yield from self._map_at_once(work, pending, instead)

    def _map_at_once(
        self,
        work: Callable[[T], R],
        pending: Iterator[T],
        instead: Callable[[T, float], R | None] | None,
    ) -> Iterator[R]:
        helps = threading.current_thread() in self._threads
        given: deque[tuple[T, _Job]] = deque()
        try:
            for item in pending:
                given.append((item, self._give(work, item, first=helps)))
                if len(given) > 2 * READERS:
                    yield self._result(*given.popleft(), helps, instead)
            while given:
                yield self._result(*given.popleft(), helps, instead)
        finally:
            # Something has failed, or nobody wants the rest.
            under_way = [job for _, job in given if not self._take_back(job)]
            deadline = time.monotonic() + _LAST_WORK
            for job in under_way:
                job.done.wait(max(0.0, deadline - time.monotonic()))

    def _result(
        self, item: T, job: _Job, helps: bool, instead: Callable[[T, float], R | None] | None
    ) -> R:
        # One of the threads does itself what no other has begun: so it never waits in vain.
        if helps and self._take_back(job):
            job.run()
        start = time.monotonic()
        while not job.done.wait(_LOOK_UP if instead else None):
            found = instead(item, time.monotonic() - start) if instead else None
            if found is not None:
                return found
        result: R = job.result()
        return result

    def _give(self, work: Callable[[T], R], item: T, first: bool) -> _Job:
        job = _Job(work, item)
        with self._changed:
            # What is part of something that has begun comes before what hasn't.
            (self._queue.appendleft if first else self._queue.append)(job)
            self._changed.notify()
            if len(self._threads) < READERS:
                thread = threading.Thread(target=self._serve, daemon=True)
                self._threads.add(thread)
                thread.start()
        return job

    def _take_back(self, job: _Job) -> bool:
        """Take back ``job`` if no thread has begun it; return whether that worked."""
        with self._changed:
            try:
                self._queue.remove(job)
            except ValueError:
                return False
            return True

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                job = self._queue.popleft()
            job.run()
