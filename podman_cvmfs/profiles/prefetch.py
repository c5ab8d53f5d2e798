# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a profile from the repository, several at once, before a container does.

A container opens its files one after the other, and each may wait for the network. What is read
here is then in the cache of CernVM-FS's client, and in the kernel's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from podman_cvmfs.profiles.profile import Use
from podman_cvmfs.profiles.shown import ShownImage
from podman_cvmfs.repository.readers import Readers
from podman_cvmfs.util.progress import track

#: How much is read by one call.
_CHUNK = 1024 * 1024
#: Of a larger file without known ranges only so much is read: what is used of it isn't known.
WHOLE = 32 * 1024 * 1024
#: A name that is in no image. Whoever looks for it in a root makes the client fetch the catalogue.
_ABSENT = ".podman-cvmfs-absent"
#: CernVM-FS's client counts here what it has fetched.
_FETCHED = "user.ndownload"


@dataclass(frozen=True)
class Limits:
    """``size`` is in bytes. ``seconds`` is how long all may take."""

    size: int = 1024**3
    seconds: float = 60.0


@dataclass(frozen=True)
class Prefetched:
    """What was done: ``files`` were read, which have ``size`` bytes; others were ``missing`` from
    the image; ``failed`` ones couldn't be read; ``left`` were not tried, because of a limit.

    ``fetched`` is how many objects the client fetched meanwhile, for whomever; None if it doesn't
    tell.
    """

    files: int
    size: int
    missing: int
    failed: int
    left: int
    fetched: int | None


def prefetch(
    shown: ShownImage,
    uses: Sequence[Use],
    limits: Limits = Limits(),
    what: str = "reading",
) -> Prefetched:
    """Read these files of the image, in their order. A terminal shows the progress, called
    ``what``.

    It fails for nothing that a repository does: what can't be read is counted.
    """
    run = _Run(shown, limits)
    before = _count(shown)
    readers = Readers(is_slow=True)
    # Several layers' catalogues are fetched at once, not one after the other with the first files.
    for _ in readers.map(_have_catalogue, shown.roots, run.given_up):
        if run.is_late:
            break
    found: Counter[_Fate] = Counter()
    for fate in track(readers.map(run.read, uses, run.given_up), len(uses), what):
        found[fate] += 1
        # Each read that hangs would be waited for a little.
        if run.is_late:
            break
    after = _count(shown)
    tried = found[_Fate.READ] + found[_Fate.MISSING] + found[_Fate.FAILED]
    return Prefetched(
        files=found[_Fate.READ],
        size=run.size,
        missing=found[_Fate.MISSING],
        failed=found[_Fate.FAILED],
        left=len(uses) - tried,
        fetched=None if before is None or after is None else after - before,
    )


class _Fate(Enum):
    READ = "read"
    MISSING = "missing"
    FAILED = "failed"
    LEFT = "left"


class _Run:
    """The reads of one image. ``size`` is the bytes until now."""

    def __init__(self, shown: ShownImage, limits: Limits) -> None:
        self.size = 0
        self._shown, self._most = shown, limits.size
        self._deadline = time.monotonic() + limits.seconds
        self._lock = threading.Lock()

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._deadline

    def given_up(self, item: object, seconds: float) -> _Fate | None:
        """What becomes of a read that takes too long: a dead server isn't waited for."""
        return _Fate.LEFT if self.is_late else None

    def read(self, use: Use) -> _Fate:
        """Read one file as far as it is used."""
        if self.is_late or self.size >= self._most:
            return _Fate.LEFT
        try:
            where = self._shown.locate(use.path)
            if where is None:
                return _Fate.MISSING
            self._read(where, use)
        except OSError:
            return _Fate.FAILED
        return _Fate.READ

    def _read(self, where: str, use: Use) -> None:
        # Somebody may have put a link or a pipe there since.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(where, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", where)
            for offset, length in use.ranges or ((0, WHOLE),):
                self._read_range(descriptor, offset, min(offset + length, status.st_size))
        finally:
            os.close(descriptor)

    def _read_range(self, descriptor: int, offset: int, end: int) -> None:
        while offset < end and not self.is_late and self.size < self._most:
            count = len(os.pread(descriptor, min(_CHUNK, end - offset), offset))
            if not count:
                return
            offset += count
            with self._lock:
                self.size += count


def _have_catalogue(root: str) -> _Fate:
    with contextlib.suppress(OSError):
        os.lstat(f"{root}/{_ABSENT}")
    return _Fate.READ


def _count(shown: ShownImage) -> int | None:
    """What the client that shows the image has fetched until now."""
    for root in reversed(shown.roots):
        with contextlib.suppress(OSError, ValueError):
            return int(os.getxattr(root, _FETCHED))
    return None
