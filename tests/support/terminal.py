# SPDX-License-Identifier: Apache-2.0
"""A shell at a terminal, with somebody who types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

_SECONDS = 30
_TO_START, _TO_END = "\x01", "\x05"


class Terminal:
    """Runs the interactive shell ``argv`` until the end of a ``with`` block."""

    def __init__(self, argv: Sequence[str | Path], env: Mapping[str, str], directory: Path) -> None:
        self._directory = directory
        self._shown = ""
        self._keyboard, inside = pty.openpty()
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", *argv],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=directory,
            env={"TERM": "dumb", **env},
        )
        os.close(inside)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._keyboard)

    def enter(self, command: str) -> None:
        """Have the shell run a command, and wait for its end."""
        done = self._directory / "done"
        self._type(f"{command}; echo > {done}\r")
        self._wait(done.exists)
        done.unlink()

    def completed(self, line: str, more: str) -> str:
        """What the tab key makes of ``line`` once the shell has shown ``more``."""
        result = self._directory / "line"
        self._shown = ""
        self._type(f"{line}\t")
        self._wait(lambda: more in self._shown)
        self._type(f"{_TO_START}echo '{_TO_END}' > {result}.new; mv {result}.new {result}\r")
        self._wait(result.exists)
        text = result.read_text()
        result.unlink()
        return text.rstrip()

    def _type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < end, f"nothing came of it: {self._shown[-2000:]}"
            if select.select([self._keyboard], [], [], 0.02)[0]:
                self._shown += os.read(self._keyboard, 65536).decode(errors="replace")
