# SPDX-License-Identifier: Apache-2.0
"""The shared library through ctypes, in a process of its own as always."""

from __future__ import annotations

import subprocess
import sys
import textwrap

_PRELUDE = """
import json, os, resource, sys, tempfile, threading
from podman_cvmfs.storage_native import CallError, PanicError
from podman_cvmfs.storage_native.binding import SharedLibrary
from podman_cvmfs.storage_native.calls import Calls
library = SharedLibrary(sys.argv[1])
calls = Calls(library.call)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
"""


def _python(library: str, source: str) -> str:
    """Run ``source``, which must work, with the library loaded; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + textwrap.dedent(source), library],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_calls_and_errors(library: str) -> None:
    printed = _python(
        library,
        """
        print(calls.version().abi, calls.version().pid == os.getpid())
        for ask in (calls.panic, lambda: calls.images(7)):
            try:
                ask()
            except CallError as err:
                print(type(err).__name__, err.kind)
        print(library.call(b"{")[:27])
        print(library.call(b"")[:27])
        print(library.call(b"x" * (17 << 20))[:27])
        """,
    )
    error = 'b\'{"error":{"kind":"request",\''
    assert printed.splitlines() == [
        "1 True",
        "PanicError panic",
        "CallError request",
        error,
        error,
        error,
    ]


def test_ten_thousand_calls_without_growth(library: str) -> None:
    printed = _python(
        library,
        """
        def ask(times):
            for number in range(times):
                calls.version()
                library.call(b'{"call": "' + b"x" * 1000 + b'"}')
                if number % 10 == 0:
                    try:
                        calls.panic()
                    except PanicError:
                        pass
            return resident()
        before = ask(2_000)
        print(ask(10_000) - before)
        """,
    )
    # One kilobyte lost per call would be ten times as much.
    assert int(printed) < 3_000_000


def test_threads(library: str) -> None:
    printed = _python(
        library,
        """
        def ask():
            for number in range(500):
                try:
                    calls.images(number)
                except CallError as err:
                    found.append(err.message.endswith(f" {number}"))
                if number % 50 == 0:
                    try:
                        calls.panic()
                    except PanicError:
                        found.append(True)
        found = []
        threads = [threading.Thread(target=ask) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(len(found), all(found))
        """,
    )
    assert printed.split() == ["4080", "True"]


def test_nothing_that_writes_is_exported(library: str) -> None:
    """Only our three functions, besides those that Go itself needs."""
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", library], stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout.split()
    ours = {name for name in symbols if name.startswith("podman_cvmfs")}
    assert ours == {"podman_cvmfs_abi", "podman_cvmfs_call", "podman_cvmfs_free"}
