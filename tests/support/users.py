# SPDX-License-Identifier: Apache-2.0
"""Places and processes of several users, for tests that root runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def public_directory() -> Iterator[Path]:
    """A new directory that only root can change, and that all users reach."""
    with tempfile.TemporaryDirectory(prefix="public-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def answer_of(uid: int, question: Callable[[], bool]) -> bool:
    """What ``question`` returns to the user ``uid``; asked in a child, since a user can't become
    root again. Raises AssertionError if it raises anything."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            code = 0 if question() else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0
