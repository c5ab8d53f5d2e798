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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_PIECE = 1 << 20
#: Bytes of the length that stands before each answer.
_LENGTH = 8


class HangingError(Exception):
    """There was no answer in time."""


def bounded(look: Callable[[], T], seconds: float) -> T:
    """Call ``look`` in a process of its own; return or raise what it does (both must be picklable).

    Raises HangingError if that takes more than ``seconds``, OSError if the child dies.
    """
    with _child(lambda _: look(), (None,)) as reader:
        answer: T = _next(reader, time.monotonic() + seconds)
    return answer


def bounded_each(
    look: Callable[[S], T], items: Sequence[S], seconds: float, total: float
) -> Iterator[T | None]:
    """What ``look`` returns or raises for each of ``items``, in order; None for one that takes more
    than ``seconds``, or ends its process.

    One process looks at all, and after each that hangs another one goes on. After ``total`` seconds
    of waiting for what hangs the rest is None, too.
    """
    left = total
    done = 0
    while done < len(items) and left > 0:
        with contextlib.suppress(HangingError, _DiedError), _child(look, items[done:]) as reader:
            while done < len(items):
                started = time.monotonic()
                done += 1
                try:
                    answer = _next(reader, started + min(seconds, left))
                except (HangingError, _DiedError):
                    left -= time.monotonic() - started
                    yield None
                    raise
                yield answer
    yield from (None for _ in items[done:])


class _DiedError(OSError):
    """The process that looks has died."""


@contextlib.contextmanager
def _child(look: Callable[[S], Any], items: Sequence[S]) -> Iterator[int]:
    """A process that looks at ``items``, and the pipe that its answers come from."""
    reader, writer = os.pipe()
    # An interrupt is for the parent; it must not send the child up our caller's stack.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = os.fork()
        if child == 0:
            _answer(look, items, writer)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writer)
    try:
        yield reader
    except BaseException:
        # Nobody waits for the child, so whether it dies is unknown.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
        raise
    finally:
        os.close(reader)
    # Whoever ignores SIGCHLD has nothing to wait for.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _answer(look: Callable[[S], Any], items: Sequence[S], writer: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # Whoever reads our output must not wait for a child that hangs.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        with open(writer, "wb") as pipe:
            for item in items:
                try:
                    answer: tuple[bool, object] = (False, look(item))
                except Exception as err:
                    answer = (True, err)
                data = pickle.dumps(answer)
                pipe.write(len(data).to_bytes(_LENGTH, "big") + data)
                pipe.flush()
    finally:
        os._exit(0)


def _next(reader: int, deadline: float) -> Any:
    """The next answer. Raises what it says, HangingError after ``deadline``, _DiedError."""
    data = _read(reader, int.from_bytes(_read(reader, _LENGTH, deadline), "big"), deadline)
    failed, result = pickle.loads(data)
    if failed:
        raise result
    return result


def _read(reader: int, count: int, deadline: float) -> bytes:
    """So many bytes. Raises HangingError after ``deadline``, _DiedError."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    data = bytearray()
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise HangingError
        piece = os.read(reader, min(_PIECE, count - len(data)))
        if not piece:
            raise _DiedError("the process that looks has died")
        data += piece
    return bytes(data)
