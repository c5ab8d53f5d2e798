# SPDX-License-Identifier: Apache-2.0
"""Follow a repository: do the same work whenever it may have something to do.

CernVM-FS doesn't report new revisions by itself. So it is asked again and again, which costs
microseconds.
"""

from __future__ import annotations

import contextlib
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


def follow(work: Callable[[], None], interval: float, notification_file: str | None = None) -> None:
    """Call ``work`` every ``interval`` seconds until SIGTERM or SIGINT; return then.

    It is called at once when ``notification_file`` (DUCC appends a line to it for everything it
    does: ``ducc/notification``) has changed.

    A PodmanCvmfsError of ``work`` is logged and doesn't end the watch. A repeated error is logged
    only once. Raises InputError for a notification file that is a directory; one that isn't there
    yet is waited for.
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

    def end(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(told, b"\0")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    failure = ""
    pause = interval
    try:
        while not _is_readable(stop, 0):
            try:
                work()
                if failure:
                    log.info("works again")
                failure, pause = "", interval
            except PodmanCvmfsError as err:
                if err.message != failure:
                    log.error("%s", err.line)
                failure = err.message
                pause = min(max(pause, interval) * 2, max(_LONGEST_PAUSE, interval))
            _wait(stop, pause, notification_file)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(stop)
        os.close(told)


def _wait(stop: int, pause: float, notification_file: str | None) -> None:
    """Wait for ``pause`` seconds, or until ``stop`` can be read or the file has changed."""
    if notification_file is None:
        _is_readable(stop, pause)
        return
    before = _look_of(notification_file)
    end = time.monotonic() + pause
    while time.monotonic() < end and _look_of(notification_file) == before:
        if _is_readable(stop, min(_GLANCE, pause)):
            return


def _is_readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or comes within so many seconds."""
    return bool(select.select([descriptor], [], [], seconds)[0])


def _look_of(path: str) -> tuple[int, int, int] | None:
    try:
        attributes = os.stat(path)
    except OSError:
        return None
    return attributes.st_size, attributes.st_mtime_ns, attributes.st_ino
