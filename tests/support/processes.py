# SPDX-License-Identifier: Apache-2.0
"""Processes beside a test, which end with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any


@contextlib.contextmanager
def started(
    argv: Sequence[str | os.PathLike[str]], **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Start a process; it is killed at the end of the context if it still runs then.

    Popen's own context waits for the process instead: for ever, if the test has failed before it
    told it to end. ``options`` are Popen's.
    """
    with subprocess.Popen(argv, **options) as process:
        try:
            yield process
        finally:
            process.kill()
