# SPDX-License-Identifier: Apache-2.0
"""Run a Python function in a process of its own and decide on each of its file-system calls.

The kernel asks before it makes a call (seccomp's user notification, seccomp(2) and
seccomp_unotify(2), Linux 5.5 and later): it may be made, fail with an error, or be the last thing
the process tried. That catches calls made in C as well, in all threads, and costs far less than
ptrace.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NoReturn, Union

from tests.crash.calls import NAMES, NUMBERS, Call

#: What may become of a call: it is made (None), fails with an errno, is left out but seems to have
#: worked, or the process is killed.
SKIP = "skip"
KILL = "kill"
Verdict = Union[None, int, str]

# struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, ip, 6 arguments.
_REQUEST = struct.Struct("=QII iIQ 6Q")
# struct seccomp_notif_resp: id, val, error, flags.
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_CONTINUE = 1
_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER = 1, 1 << 3
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
# Classic BPF: load a word, jump if equal, return.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06


class SuperviseError(RuntimeError):
    """The kernel doesn't let us supervise; the text says why."""


@dataclass
class Outcome:
    """How it ended: the exit code (negative: the signal), what it printed, whether it hung."""

    code: int
    output: str
    hung: bool = False


def supervise(
    function: Callable[[], int],
    *,
    calls: Collection[str] = (),
    decide: Callable[[Call], Verdict] = lambda call: None,
    seconds: float = 60,
) -> Outcome:
    """Run ``function`` in a forked process and ask ``decide`` about each of the named ``calls``.

    The process ends with what ``function`` returns. It is killed after ``seconds``.
    """
    ours, theirs = socket.socketpair()
    output, output_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        ours.close()
        os.close(output)
        _in_child(function, calls, theirs, output_end)
    theirs.close()
    os.close(output_end)
    listener = -1
    try:
        if calls:
            _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
            if not descriptors:
                os.waitpid(child, 0)
                raise SuperviseError(os.read(output, 65536).decode(errors="replace"))
            listener = descriptors[0]
        return _watch(child, listener, output, decide, seconds)
    finally:
        ours.close()
        os.close(output)
        if listener >= 0:
            os.close(listener)


def _in_child(
    function: Callable[[], int], calls: Collection[str], channel: socket.socket, output: int
) -> NoReturn:
    code = 99
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        for name, number in (("stdout", 1), ("stderr", 2)):
            setattr(sys, name, os.fdopen(number, "w", errors="replace", closefd=False))
        if calls:
            listener = _install(calls)
            socket.send_fds(channel, [b"listener"], [listener])
            # Were it kept here, nobody would notice the supervisor's end.
            os.close(listener)
        channel.close()
        code = function()
    except SystemExit as err:
        code = err.code if isinstance(err.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _install(calls: Collection[str]) -> int:
    """Have the kernel ask about these calls of this process; return the descriptor it asks on."""
    numbers = sorted(NUMBERS[name] for name in calls)
    program = [(_LOAD, 0, 0, 0)]
    for index, number in enumerate(numbers):
        program.append((_EQUAL, len(numbers) - index, 0, number))
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(
        ctypes.c_long(_SECCOMP[os.uname().machine]),
        ctypes.c_long(_SET_FILTER),
        ctypes.c_long(_NEW_LISTENER),
        ctypes.c_char_p(header),
    )
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return int(listener)


def _watch(
    child: int, listener: int, output: int, decide: Callable[[Call], Verdict], seconds: float
) -> Outcome:
    deadline = time.monotonic() + seconds
    printed = b""
    hung = False
    ended = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(output, select.POLLIN)
        poll.register(ended, select.POLLIN)
        if listener >= 0:
            poll.register(listener, select.POLLIN)
        alive = True
        while alive:
            left = deadline - time.monotonic()
            if left <= 0 and not hung:
                hung = True
                os.kill(child, signal.SIGKILL)
            for descriptor, events in poll.poll(max(0.0, left) * 1000 if not hung else None):
                if descriptor == output:
                    chunk = os.read(output, 65536) if events & select.POLLIN else b""
                    printed += chunk
                    if not chunk:
                        poll.unregister(output)
                elif descriptor == listener:
                    if not (events & select.POLLIN and _answer(child, listener, decide)):
                        poll.unregister(listener)
                else:
                    alive = False
        while chunk := os.read(output, 65536):
            printed += chunk
    finally:
        os.close(ended)
        status = os.waitpid(child, 0)[1]
    return Outcome(os.waitstatus_to_exitcode(status), printed.decode(errors="replace"), hung)


def _answer(child: int, listener: int, decide: Callable[[Call], Verdict]) -> bool:
    """Answer one question; False if there will be no more."""
    try:
        request = fcntl.ioctl(listener, _RECEIVE, b"\0" * _REQUEST.size)
    except OSError as err:
        # Who asked has been killed meanwhile; others of its group may still ask.
        return err.errno == errno.ENOENT
    key, process, _, number, _, _, *arguments = _REQUEST.unpack(request)
    verdict = decide(Call(NAMES[number], process, tuple(arguments)))
    if verdict == KILL:
        os.kill(child, signal.SIGKILL)
        return False
    if verdict is None:
        response = _RESPONSE.pack(key, 0, 0, _CONTINUE)
    elif verdict == SKIP:
        response = _RESPONSE.pack(key, 0, 0, 0)
    else:
        assert isinstance(verdict, int)
        response = _RESPONSE.pack(key, 0, -verdict, 0)
    try:
        fcntl.ioctl(listener, _SEND, response)
    except OSError as err:
        return err.errno == errno.ENOENT
    return True
