# SPDX-License-Identifier: Apache-2.0
"""Finds directories of a repository whose files can't be read while its server is down.

CernVM-FS's client goes on to show what is in its cache. Whether that is all of an image nobody can
tell. But the first look into its directories needs their catalogue, and a container needs
programs.
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
_PROGRAMS = ("usr/local/bin", "usr/bin", "bin", "usr/sbin", "sbin", "")
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
    """Whether an image or a layer in ``directory`` can be read: listed, and two of its programs
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
        for program in _programs_in(directory):
            os.close(os.open(program, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as err:
        # A program can be closed to this user, or go away meanwhile.
        return err.errno not in NO_ANSWER | NO_CLIENT
    return True


def _programs_in(root: str) -> set[str]:
    """Two files that tell most: a shell, which most containers read, and the youngest program,
    which few other images have. Raises OSError."""
    shell, youngest = "", (-1.0, "")
    for place in _PROGRAMS:
        directory = f"{root}/{place}"
        if os.path.islink(directory) or not os.path.isdir(directory):
            continue
        with os.scandir(directory) as entries:
            files = [each for each in entries if each.is_file(follow_symlinks=False)]
        for entry in files:
            attributes = entry.stat(follow_symlinks=False)
            # Nothing is fetched for an empty file.
            if attributes.st_size:
                youngest = max(youngest, (attributes.st_mtime, entry.path))
                shell = shell or (entry.path if entry.name in _SHELLS else "")
    return {path for path in (shell, youngest[1]) if path}
