# SPDX-License-Identifier: Apache-2.0
"""Changes of files: shown as a diff, or made whole with mode and owner kept."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

from podman_cvmfs.errors import PodmanCvmfsError, printable


@dataclass(frozen=True)
class Change:
    """A change of the file ``path`` (no symbolic link) from ``before`` to ``after``; None means no
    file.

    ``mode`` is for a new file. An existing one keeps its mode.
    """

    path: str
    before: bytes | None
    after: bytes | None
    mode: int = 0o644


def as_diff(changes: Iterable[Change]) -> str:
    """The changes as a unified diff, fit for a terminal."""
    diff: list[str] = []
    for change in changes:
        old, new = (
            "/dev/null" if data is None else printable(change.path)
            for data in (change.before, change.after)
        )
        before, after = (
            [printable(line) for line in (data or b"").decode(errors="replace").split("\n")]
            for data in (change.before, change.after)
        )
        # After a final newline split() gives an empty piece.
        for lines in (before, after):
            if lines[-1] == "":
                lines.pop()
        diff += difflib.unified_diff(before, after, old, new, lineterm="")
    return "".join(line + "\n" for line in diff)


def make(change: Change) -> None:
    """Make one change by a rename, with the directories it needs.

    Raises PodmanCvmfsError; then the file is unchanged.
    """
    try:
        if change.after is None:
            os.unlink(change.path)
            return
        for directory in missing_directories(change.path):
            os.mkdir(directory, 0o755)
        _write(change.path, change.after, change.mode)
    except OSError as err:
        raise PodmanCvmfsError(
            f"can't write {printable(change.path)}: {err.strerror}",
            "earlier files are already changed: remove the cause, then run the command again",
        ) from err


def missing_directories(path: str) -> list[str]:
    """The directories that have to be made for a file at ``path``, the outermost first."""
    missing: list[str] = []
    while not os.path.isdir(path := os.path.dirname(path)):
        missing.insert(0, path)
    return missing


def _write(path: str, data: bytes, mode: int) -> None:
    owner = None
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
