# SPDX-License-Identifier: Apache-2.0
"""Finds directories of a repository whose files can't be read while its server is down.

CernVM-FS's client goes on to show what is in its cache. Whether that is all of an image nobody can
tell. But the first look into its directories needs their catalogue, and a container needs some
program.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.repository.served import NO_ANSWER, NO_CLIENT

#: What has not been answered within so many seconds, altogether, can't be read.
_PATIENCE = 30.0
#: Directories of programs, without links on their way.
_PROGRAMS = ("usr/bin", "bin", "usr/sbin", "sbin", "")
_SHELLS = frozenset(["sh", "dash", "bash", "ash", "busybox"])


def unreadable(directories: Iterable[str], patience: float = _PATIENCE) -> set[str]:
    """Those of ``directories``, each the root of an image or a layer, that can't be read now, or
    not within ``patience`` seconds."""
    asked = list(directories)
    end = time.monotonic() + patience

    def is_unreadable(directory: str) -> bool:
        return time.monotonic() > end or not can_be_read(directory)

    def given_up(directory: str, seconds: float) -> bool | None:
        return True if time.monotonic() > end else None

    answers = Readers(is_slow=True).map(is_unreadable, asked, given_up)
    return {directory for directory, answer in zip(asked, answers) if answer}


def can_be_read(directory: str) -> bool:
    """Whether an image or a layer in ``directory`` can be read: listed, and one of its programs
    opened. CernVM-FS's client fetches what it hasn't got for that. What is closed to this user
    counts as readable."""
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        program = _program_in(directory)
        if program is not None:
            os.close(os.open(program, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as err:
        # A program can be closed to this user, or go away meanwhile.
        return err.errno not in NO_ANSWER | NO_CLIENT
    return True


def _program_in(root: str) -> str | None:
    """A file that most containers read: a shell if there is one, else any program. Raises
    OSError."""
    for place in _PROGRAMS:
        directory = f"{root}/{place}"
        if os.path.islink(directory) or not os.path.isdir(directory):
            continue
        with os.scandir(directory) as entries:
            names = sorted(entries, key=lambda each: (each.name not in _SHELLS, each.name))
        for entry in names:
            # Nothing is fetched for an empty file.
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size:
                return entry.path
    return None
