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
_SUBJECT = "the process with the containers/storage library"
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
        self._failure: str | None = None
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
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def call(self, request: bytes) -> bytes:
        """Hand over one request and return the answer. Raises ChildError."""
        with self._lock:
            if self._failure is None:
                try:
                    return self._exchange(request + b"\n")
                except BaseException:
                    # The answer to an interrupted call must not be taken for the next one's.
                    self._failure = self._failure or f"{_SUBJECT} was interrupted"
                    self._kill()
                    raise
            raise ChildError(self._failure)

    def _exchange(self, line: bytes) -> bytes:
        """Write a line and read one."""
        pipe_in, pipe_out = self._stdin.fileno(), self._stdout.fileno()
        deadline = time.monotonic() + self._timeout
        pending = memoryview(line)
        answer = bytearray()
        poll = select.poll()
        poll.register(pipe_out, select.POLLIN)
        poll.register(pipe_in, select.POLLOUT)
        while not answer.endswith(b"\n"):
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                raise self._fail(f"took more than {self._timeout:g} seconds")
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
                    raise self._fail(self._end())
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise self._fail(f"answers with more than {MAX_ANSWER} bytes")
        return bytes(answer)

    def _fail(self, what: str) -> ChildError:
        """The error for this call, and for all later ones."""
        self._failure = f"{_SUBJECT} {what}"
        return ChildError(self._failure)

    def _end(self) -> str:
        """How the process ends, which has closed its output."""
        try:
            status = self._process.wait(_DYING_TIMEOUT)
        except subprocess.TimeoutExpired:
            return "has closed its output"
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        words = self._last_words()
        return f"{ended}: {words}" if words else ended

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _LAST_WORDS))
        return printable(self._words.read().decode(errors="replace").strip())

    def close(self) -> None:
        """End the process: ask it first, then kill it."""
        with self._lock:
            self._failure = self._failure or f"{_SUBJECT} has been ended"
            with contextlib.suppress(OSError):
                self._stdin.close()
            try:
                self._process.wait(_END_TIMEOUT)
            except BaseException as err:
                self._kill()
                self._process.wait()
                if not isinstance(err, subprocess.TimeoutExpired):
                    raise
            finally:
                self._stdout.close()
                self._words.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            # An interrupt: whoever waits for us doesn't wait for the library too.
            self._kill()
        self.close()


def private_prefix(environment: Sequence[str]) -> list[str]:
    """The command that starts a process in private namespaces, where stores can be opened.

    ``environment`` is what ``env`` takes ("-u", "NAME"; "NAME=value"): podman doesn't see it.
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
