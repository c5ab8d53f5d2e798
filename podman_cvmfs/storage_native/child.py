# SPDX-License-Identifier: Apache-2.0
"""The library in a short-lived process of its own; ``binding`` says why.

``private_prefix`` gives it a mount namespace of its own, so its mounts end with it however it ends.
A user who isn't root gets it under ``podman unshare``, where podman itself opens stores.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

import podman_cvmfs
from podman_cvmfs.errors import printable
from podman_cvmfs.storage_native.artefact import Artefact, Kind
from podman_cvmfs.storage_native.envelope import MAX_ANSWER
from podman_cvmfs.storage_native.errors import ChildError, Unavailable

#: Seconds that one call may take.
CALL_TIMEOUT = 300.0
#: Seconds to wait for the process once its input has ended.
_END_TIMEOUT = 30.0
#: Seconds between the end of its output and its own end.
_DYING_TIMEOUT = 2.0
#: Bytes to write or read at once: what a pipe holds.
_PIECE = 65536
#: How much of its standard error is repeated when it dies.
_LAST_WORDS = 2000


class Child:
    """A process with ``artefact``; close it, or use it in a ``with`` statement.

    ``prefix`` is a command that starts it, ``timeout`` the seconds that one call may take.
    ``call`` may be used from several threads; calls are done one by one.
    """

    def __init__(
        self, artefact: Artefact, prefix: Sequence[str] = (), *, timeout: float = CALL_TIMEOUT
    ) -> None:
        """Raises Unavailable where what is to be started is missing."""
        self._timeout = timeout
        self._timed_out = False
        self._lock = threading.Lock()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        argv = [*prefix, *_command(artefact)]
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                # Python looks for modules where it is started: that must be nobody's place.
                cwd="/",
                env={**os.environ, **_python_path()},
                bufsize=0,
                # podman unshare and what it starts are killed together.
                start_new_session=True,
            )
        except OSError as err:
            self._words.close()
            raise Unavailable(f"can't start {printable(argv[0])}: {err.strerror}") from err
        assert self._process.stdin is not None and self._process.stdout is not None
        self._pipes = (self._process.stdin.fileno(), self._process.stdout.fileno())
        os.set_blocking(self._pipes[0], False)

    def call(self, request: bytes) -> bytes:
        """Hand over one request and return the answer. Raises ChildError."""
        with self._lock:
            answer = self._exchange(request + b"\n")
            if not answer.endswith(b"\n"):
                raise self._ended(len(answer))
        return answer

    def _exchange(self, line: bytes) -> bytes:
        """Write a line and read one; what is no whole line is the last that will come."""
        pipe_in, pipe_out = self._pipes
        deadline = time.monotonic() + self._timeout
        pending = memoryview(line)
        answer = bytearray()
        poll = select.poll()
        poll.register(pipe_out, select.POLLIN)
        poll.register(pipe_in, select.POLLOUT)
        while not answer.endswith(b"\n") and len(answer) <= MAX_ANSWER:
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                self._timed_out = True
                break
            if pipe_in in ready:
                try:
                    pending = pending[os.write(pipe_in, pending[:_PIECE]) :]
                except BrokenPipeError:
                    # It may have answered all the same.
                    pending = pending[:0]
                if not pending:
                    poll.unregister(pipe_in)
            if pipe_out in ready:
                piece = os.read(pipe_out, _PIECE)
                if not piece:
                    break
                answer += piece
        return bytes(answer)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _ended(self, got: int) -> ChildError:
        """The error for a process that has given no whole answer."""
        if not self._timed_out and got <= MAX_ANSWER:
            # It is about to end, and how is worth knowing.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_DYING_TIMEOUT)
        self._kill()
        status = self._process.wait()
        subject = "the process with the containers/storage library"
        if self._timed_out:
            return ChildError(f"{subject} took more than {self._timeout:g} seconds")
        if got > MAX_ANSWER:
            return ChildError(f"{subject} answers with more than {MAX_ANSWER} bytes")
        words = self._last_words()
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return ChildError(f"{subject} {ended}" + (f": {words}" if words else ""))

    def _last_words(self) -> str:
        if self._words.closed:
            return ""
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _LAST_WORDS))
        return printable(self._words.read().decode(errors="replace").strip())

    def close(self) -> None:
        """End the process: ask it first, then kill it."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._words.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def private_prefix(environment: Sequence[str]) -> list[str]:
    """The command that starts a process in private namespaces, where stores can be opened.

    ``environment`` is what ``env`` takes ("NAME=value", "--unset=NAME"): podman doesn't see it.
    Raises Unavailable for a user without podman.
    """
    prefix = []
    if os.geteuid() != 0:
        if shutil.which("podman") is None:
            raise Unavailable(
                "podman is not installed, which gives ordinary users their user namespace"
            )
        prefix += ["podman", "unshare"]
    # slave: what an automounter mounts outside meanwhile is seen inside.
    return [*prefix, "unshare", "--mount", "--propagation", "slave", "env", *environment]


def _command(artefact: Artefact) -> list[str]:
    if artefact.kind is Kind.PROGRAM:
        return [artefact.path]
    return [sys.executable, "-m", "podman_cvmfs.storage_native", "serve", artefact.path]


def _python_path() -> dict[str, str]:
    """The environment in which a new Python finds the very package that is running."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(podman_cvmfs.__file__)))
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": package + (os.pathsep + before if before else "")}
