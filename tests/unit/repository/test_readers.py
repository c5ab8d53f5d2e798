# SPDX-License-Identifier: Apache-2.0
"""Few threads read, whoever gives them work."""

from __future__ import annotations

import threading
import time

import pytest

from podman_cvmfs.repository.readers import READERS, Readers


class _Gauge:
    """Counts how much work is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.threads: set[int] = set()

    def work(self, number: int) -> int:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.threads.add(threading.get_ident())
        time.sleep(0.02)
        with self._lock:
            self._now -= 1
        return number


def test_results_come_in_order_from_few_threads() -> None:
    gauge = _Gauge()
    assert list(Readers().map(gauge.work, range(50))) == [*range(50)]
    assert gauge.most == READERS


def test_quick_work_is_done_by_who_wants_it() -> None:
    threads = set(Readers().map(lambda _: threading.get_ident(), range(50)))
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("images", [1, 3, 40])
def test_work_gives_more_work_to_the_same_threads(images: int) -> None:
    gauge, readers = _Gauge(), Readers(is_slow=True)

    def image(number: int) -> list[int]:
        return list(readers.map(gauge.work, range(number, number + 10)))

    began = time.monotonic()
    found = list(readers.map(image, range(images)))
    assert found == [[*range(number, number + 10)] for number in range(images)]
    assert gauge.most <= READERS
    # One after the other: 0.2 s an image.
    assert images > 1 or time.monotonic() - began < 0.15


def test_what_fails_is_raised_and_the_rest_left() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        time.sleep(0.02)
        if number == 20:
            raise ValueError(number)
        done.append(number)
        return number

    with pytest.raises(ValueError, match="20"):
        list(Readers().map(work, range(1000)))
    assert {*range(20)} <= {*done} and len(done) < 60


def test_what_hangs_is_left_to_itself() -> None:
    end = threading.Event()
    asked: list[float] = []

    def work(number: int) -> int:
        if number == 2:
            end.wait(20)
        return number

    def instead(number: int, seconds: float) -> int | None:
        asked.append(seconds)
        return -number if len(asked) > 1 else None

    readers = Readers(is_slow=True)
    assert list(readers.map(work, range(5), instead)) == [0, 1, -2, 3, 4]
    assert asked[1] > asked[0] > 0
    end.set()
