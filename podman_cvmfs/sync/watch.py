# SPDX-License-Identifier: Apache-2.0
"""Follow a repository: do the same work whenever it may have something to do.

CernVM-FS doesn't report new revisions by itself. So it is asked again and again, which costs
microseconds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from podman_cvmfs.errors import InputError, PodmanCvmfsError, printable

log = logging.getLogger(__name__)

#: After failures the pauses grow up to this, in seconds: an outage may last.
_LONGEST_PAUSE = 60.0
#: How often the notification file is looked at, in seconds.
_GLANCE = 0.5


def follow(
    work: Callable[[], None],
    interval: float,
    notification_file: str | None = None,
    state: Callable[[], object] = lambda: None,
    what: str = "",
) -> None:
    """Call ``work`` every ``interval`` seconds until SIGTERM or SIGINT, which are a
    KeyboardInterrupt to it; return then.

    It is called at once when ``notification_file`` (DUCC appends a line to it for everything it
    does: ``ducc/notification``) has changed. After failures it is called less often, but within
    ``interval`` when ``state``, which must be quick, has changed.

    A PodmanCvmfsError of ``work`` is logged and doesn't end the watch. A repeated error is logged
    only once. After it ``what`` is said to work again. Raises InputError for a notification file
    that is a directory; one that isn't there yet is waited for.
    """
    if notification_file is not None:
        if os.path.isdir(notification_file):
            raise InputError(
                f"the notification file {printable(notification_file)} is a directory",
                "name the file in it that DUCC writes",
            )
        if not os.path.exists(notification_file):
            path = printable(notification_file)
            log.warning("waiting for the notification file %s, which doesn't exist yet", path)
    # A handler may interrupt the main thread anywhere, so it must not take a lock, as an Event
    # does. It writes into a pipe, which stays readable from then on.
    stop, told = os.pipe()
    os.set_blocking(told, False)
    is_working = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal is_working
        with contextlib.suppress(BlockingIOError):
            os.write(told, b"\0")
        if is_working:
            is_working = False
            raise KeyboardInterrupt

    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    failure = ""
    pause = interval
    try:
        while not _is_readable(stop, 0):
            before = state()
            try:
                is_working = True
                work()
                is_working = False
                if failure:
                    log.info("%s", f"{what} works again".lstrip())
                failure, pause = "", interval
            except PodmanCvmfsError as err:
                is_working = False
                if err.message != failure:
                    log.error("%s", err.line)
                failure = err.message
                pause = min(max(pause, interval) * 2, max(_LONGEST_PAUSE, interval))
            _wait(
                stop, pause, interval, notification_file, functools.partial(_differs, state, before)
            )
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(stop)
        os.close(told)


def _wait(
    stop: int,
    pause: float,
    interval: float,
    notification_file: str | None,
    has_changed: Callable[[], bool],
) -> None:
    """Wait for ``pause`` seconds, or until ``stop`` can be read or the file has changed; after each
    ``interval`` it ends as well if something ``has_changed``."""
    before = None if notification_file is None else _look_of(notification_file)
    now = time.monotonic()
    end, asks = now + pause, now + interval
    while now < end:
        if now >= asks:
            if has_changed():
                return
            asks = now + interval
        left = min(end, asks) - now
        if _is_readable(stop, left if notification_file is None else min(_GLANCE, left)):
            return
        if notification_file is not None and _look_of(notification_file) != before:
            return
        now = time.monotonic()


def _differs(state: Callable[[], object], before: object) -> bool:
    return state() != before


def _is_readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or comes within so many seconds."""
    return bool(select.select([descriptor], [], [], seconds)[0])


def _look_of(path: str) -> tuple[int, int, int] | None:
    try:
        attributes = os.stat(path)
    except OSError:
        return None
    return attributes.st_size, attributes.st_mtime_ns, attributes.st_ino
