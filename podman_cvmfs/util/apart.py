# SPDX-License-Identifier: Apache-2.0
"""Work that an interrupt ends at once, even while it waits for a file system that doesn't answer.

A process can't end as long as one of its threads waits for an answer to a question that the program
behind a FUSE mount has already taken (``request_wait_answer`` in Linux's ``fs/fuse/dev.c``). So the
work is done by a child, and nobody waits for a child that can't end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

from podman_cvmfs.errors import PodmanCvmfsError

T = TypeVar("T")

_PIECE = 1 << 20
#: The child may clean up for so many seconds after an interrupt.
_LAST_WORK = 1.0
#: A child that has answered ends within this, in seconds, unless one of its threads waits.
_END = 0.2
#: Children that couldn't end when they had answered.
_left: set[int] = set()


def apart(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises (both must be picklable), from a process of its own.

    KeyboardInterrupt, raised here, is raised in ``work`` as well. A second later nothing of it runs
    any more, and it has none of its files open. Raises PodmanCvmfsError if the child dies.
    """
    for child in tuple(_left):
        _reap(child, 0)
    reader, writer = os.pipe()
    # As long as this process lives, and no longer, the child finds the end of this pipe open.
    held, leash = os.pipe()
    # An interrupt is for the parent, which tells the child; not for the caller's stack in it.
    ours = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    try:
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.close(leash)
            _answer(work, writer, held, ours)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writer)
    os.close(held)
    data = bytearray()
    try:
        while piece := os.read(reader, _PIECE):
            data += piece
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGUSR1)
        _drain(reader, time.monotonic() + _LAST_WORK)
        raise
    finally:
        os.close(reader)
        os.close(leash)
        status = _reap(child, _END)
    if not data:
        raise PodmanCvmfsError(f"the process that reads the repository has died ({status})")
    failed, result = pickle.loads(data)
    if failed:
        raise result
    answer: T = result
    return answer


def _drain(reader: int, deadline: float) -> None:
    """Read until the child ends, or until then."""
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not os.read(reader, _PIECE):
            return


def _reap(child: int, seconds: float) -> int | None:
    """The wait status of ``child`` once it has ended; None if it hasn't within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            ended, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            # A parent that ignores SIGCHLD leaves nothing to wait for.
            ended, status = child, 0
        if ended:
            _left.discard(child)
            return status
        if time.monotonic() >= deadline:
            _left.add(child)
            return None
        time.sleep(0.002)


def _answer(
    work: Callable[[], object], writer: int, held: int, ours: set[signal.Signals]
) -> NoReturn:
    try:
        # Not ignored: programs that the work starts would inherit that.
        for number in ours:
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGUSR1, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
        threading.Thread(target=_end_with_parent, args=(held,), daemon=True).start()
        try:
            answer: tuple[bool, object] = (False, work())
        except (PodmanCvmfsError, OSError, KeyboardInterrupt) as err:
            answer = (True, err)
        except BaseException as err:
            traceback.print_exc()
            answer = (True, err)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        with open(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        _leave()


def _end_with_parent(held: int) -> None:
    """End when the parent ends or waits no more."""
    os.read(held, 1)
    _leave()


def _leave() -> NoReturn:
    """End. What can't end yet keeps neither files open nor locks: others wait for these, and
    whoever reads what this process writes."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.closerange(3, 1 + max(map(int, os.listdir("/proc/self/fd"))))
    os._exit(1)
