# SPDX-License-Identifier: Apache-2.0
"""Finds the graphroots that the setting ``graphroots`` names.

Users whose podman is told of its graphroot by the environment or the command line (``podman
--root``) have it in no file that we read. An administrator names the places of all users by one
pattern.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from podman_cvmfs.util.probe import bounded_each

#: What stands for a user. In each directory name any text counts: a user who has left the site may
#: have left a container.
_USER = re.compile(r"\$(?:USER|LOGNAME|UID)\b|\$\{(?:USER|LOGNAME|UID)\}|%[uU]")
_WILD = re.compile(r"[*?\[]")
#: Seconds for one pattern.
_SECONDS = 30.0


@dataclass(frozen=True)
class Matches:
    """The directories that one pattern means, or why they aren't known."""

    paths: tuple[str, ...] = ()
    problem: str = ""


def find_matches(patterns: Sequence[str], seconds: float = _SECONDS) -> list[Matches]:
    """The existing directories that each of ``patterns`` means: absolute paths, in which ``$USER``,
    ``$UID``, ``%u`` and globs stand for any name.

    The place above the first such name must be there: a file system that isn't mounted now may hold
    graphroots. A file system that hangs is given up after so many ``seconds``.
    """
    answers = bounded_each(_matches, patterns, seconds, 2 * seconds)
    return [Matches(problem="it doesn't answer") if each is None else each for each in answers]


def _matches(pattern: str) -> Matches:
    text = _USER.sub("*", pattern)
    parts = text.split("/")
    fixed = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts))
    start = "/".join(parts[:fixed]) or "/"
    try:
        if fixed == len(parts):
            os.stat(start)
            return Matches((start,))
        os.listdir(start)
    except OSError as err:
        return Matches(problem=err.strerror or str(err))
    return Matches(tuple(sorted(glob.glob(text))))
