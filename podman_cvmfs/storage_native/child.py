# SPDX-License-Identifier: Apache-2.0
"""The library in a short-lived process of its own; ``binding`` says why.

``private_prefix`` gives it a mount namespace of its own, so its mounts end with it however it ends.
A user who isn't root gets it under ``podman unshare``, where podman itself opens stores.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence

import podman_cvmfs
from podman_cvmfs.errors import printable
from podman_cvmfs.storage_native.envelope import MAX_ANSWER
from podman_cvmfs.storage_native.errors import ChildError, Unavailable
from podman_cvmfs.storage_native.locate import Artefact, Kind

#: Seconds that one call may take.
CALL_TIMEOUT = 300.0
#: Seconds to wait for the process once its input has ended.
_END_TIMEOUT = 30.0
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
                # podman unshare and what it starts are killed together.
                start_new_session=True,
            )
        except OSError as err:
            self._words.close()
            raise Unavailable(f"can't start {printable(argv[0])}: {err.strerror}") from err

    def call(self, request: bytes) -> bytes:
        """Hand over one request and return the answer. Raises ChildError."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            timer = threading.Timer(self._timeout, self._give_up)
            timer.start()
            try:
                self._process.stdin.write(request + b"\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline(MAX_ANSWER + 1)
            except (OSError, ValueError):
                answer = b""
            finally:
                timer.cancel()
            if not answer.endswith(b"\n"):
                raise self._ended(len(answer))
        return answer

    def _give_up(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _ended(self, got: int) -> ChildError:
        """The error for a process that has given no whole answer."""
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
