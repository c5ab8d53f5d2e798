# SPDX-License-Identifier: Apache-2.0
"""Follow a repository: do the same work whenever it may have something to do.

CernVM-FS never reports a new revision by itself, so it is asked for, which costs microseconds.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from podman_cvmfs.errors import PodmanCvmfsError

log = logging.getLogger(__name__)

#: After failures the pauses grow up to this, in seconds: an outage may last.
_LONGEST_PAUSE = 60.0


def follow(work: Callable[[], None], interval: float) -> None:
    """Call ``work`` every ``interval`` seconds until SIGTERM or SIGINT; return then.

    A PodmanCvmfsError of ``work`` is logged, once while it stays the same, and doesn't end the
    watch.
    """
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    failure = ""
    pause = interval
    try:
        while not stop.is_set():
            try:
                work()
                if failure:
                    log.info("works again")
                failure, pause = "", interval
            except PodmanCvmfsError as err:
                if err.message != failure:
                    log.error("%s%s", err.message, f" ({err.hint})" if err.hint else "")
                failure = err.message
                pause = min(max(pause, interval) * 2, max(_LONGEST_PAUSE, interval))
            stop.wait(pause)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
