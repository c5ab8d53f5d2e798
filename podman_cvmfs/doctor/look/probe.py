# SPDX-License-Identifier: Apache-2.0
"""Look at what may never answer, such as a file system whose server is gone.

A process that waits for a hanging mount can't always be killed. A thread that waits keeps its
process from ending. So a child process looks, and a child that hangs is abandoned.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

_PIECE = 1 << 20


class HangingError(Exception):
    """There was no answer in time."""


def bounded(look: Callable[[], T], seconds: float) -> T:
    """Call ``look`` in a process of its own; return or raise what it does (both must be picklable).

    Raises HangingError if that takes more than ``seconds``, OSError if the child dies.
    """
    reader, writer = os.pipe()
    # An interrupt is for the parent; it must not send the child up our caller's stack.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = os.fork()
        if child == 0:
            _answer(look, writer)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writer)
    try:
        data = _read(reader, time.monotonic() + seconds)
    except BaseException:
        # Nobody waits for the child, so whether it dies is unknown.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
        raise
    finally:
        os.close(reader)
    os.waitpid(child, 0)
    if not data:
        raise OSError("the process that looks has died")
    failed, result = pickle.loads(data)
    if failed:
        raise result
    answer: T = result
    return answer


def _answer(look: Callable[[], Any], writer: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # Whoever reads our output must not wait for a child that hangs.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        try:
            answer: tuple[bool, object] = (False, look())
        except Exception as err:
            answer = (True, err)
        with open(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def _read(reader: int, deadline: float) -> bytes:
    """All that comes. Raises HangingError after ``deadline``."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    data = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise HangingError
        piece = os.read(reader, _PIECE)
        if not piece:
            return bytes(data)
        data += piece
