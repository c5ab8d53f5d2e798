# SPDX-License-Identifier: Apache-2.0
"""What the emulated client has in its cache, and what it fetches: see passthrough.

A repository's objects are files and *catalogues*, which hold the names and attributes of all that
is below a directory, down to the next catalogue.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future
from dataclasses import dataclass

#: The directories that DUCC makes catalogues of; the root's is there from the mount on.
_CATALOGUES = re.compile(
    r"/\.layers|/\.layers/[0-9a-f]{2}|/\.layers/[0-9a-f]{2}/[0-9a-f]+/layerfs"
    r"|/\.flat/[0-9a-f]{2}/[0-9a-f]+|/\.chains|/\.chains/[0-9a-f]{2}(?:/[0-9a-f]+)?"
)
#: Those with no other below them: a layer's, a merged root's.
_LAST = re.compile(r"/\.layers/.*/layerfs|/\.flat/.*/.*")
#: So many of its last messages a client remembers.
_MESSAGES = 10
#: No catalogue's directory is deeper.
_DEPTH = 4


@dataclass(frozen=True)
class State:
    """What changes while the client runs.

    ``broken``: "" for a network that works; "fetches" if fetches fail with EIO, as with a server
    that is down; "all" if everything does. ``delay`` is the seconds that a fetch takes. Fetches
    that fail hold each other up. ``offline``: the client has found no server when it looked for a
    new revision, as it does every few minutes.
    """

    revision: int = 1
    delay: float = 0.0
    broken: str = ""
    offline: bool = False


class Cache:
    """The client's cache in the directory ``place``.

    Each fetch ends with a rename between two directories of it. Without ``keeps`` it is too small
    for any file. Catalogues stay: the client has them open.
    """

    def __init__(self, place: str, keeps: bool) -> None:
        self._place, self._keeps = place, keeps
        self._kept: set[str] = set()
        self._under_way: dict[str, Future[None]] = {}
        self._lock, self._downloads = threading.Lock(), threading.Lock()
        self._numbers = itertools.count()
        #: How often what was asked for: "file" and "catalogue" of the server, else by the kernel.
        self.counts: Counter[str] = Counter()
        #: How many fetches of files have failed, and when the last one did.
        self.errors, self.last_error = 0, 0
        self._said: deque[str] = deque(maxlen=_MESSAGES)
        self._offline = False
        for name in ("txn", *(f"{number:02x}" for number in range(256))):
            os.makedirs(f"{place}/{name}", exist_ok=True)

    def count(self, asked: str) -> None:
        """Count a request of the kernel's."""
        with self._lock:
            self.counts[asked] += 1

    def have_file(self, path: str, state: State) -> None:
        """Have what is in the file ``path``. Raises OSError if the server can't be reached."""
        try:
            self._have("file", path, state, self._keeps)
        except OSError:
            with self._lock:
                self._count_error(f"EIO (06) on {path}")
            raise

    def messages(self, state: State) -> str:
        """What the client has logged, the newest last."""
        with self._lock:
            if state.offline and not self._offline:
                self._count_error(
                    "warning, could not apply updated catalog revision, entering offline mode"
                )
            elif self._offline and not state.offline:
                self._say("recovered from offline mode")
            self._offline = state.offline
            return "".join(f"{each}\n" for each in self._said)

    def _count_error(self, message: str) -> None:
        self.errors, self.last_error = self.errors + 1, int(time.time())
        self._say(message)

    def _say(self, message: str) -> None:
        self._said.append(f"[{time.strftime('%d %b %Y %H:%M:%S')}] {message}")

    def have_catalogues(self, path: str, state: State, *, below: bool = False) -> None:
        """Have the catalogues that know of ``path``, ``below``: of what is in it. Raises OSError if
        the server can't be reached."""
        for directory in catalogues_above(path, below):
            self._have("catalogue", directory, state, True)

    def _have(self, kind: str, path: str, state: State, keeps: bool) -> None:
        key = f"{kind} {path}"
        if key in self._kept:
            return
        fetch: Future[None] = Future()
        with self._lock:
            under_way = self._under_way.setdefault(key, fetch) if keeps else fetch
        # Who wants the same object waits for the one who fetches it, and gets the same error.
        if under_way is not fetch:
            under_way.result()
            return
        try:
            self._fetch(kind, key, state)
            if keeps:
                self._kept.add(key)
            fetch.set_result(None)
        except OSError as err:
            fetch.set_exception(err)
            raise
        finally:
            with self._lock:
                self._under_way.pop(key, None)

    def _fetch(self, kind: str, key: str, state: State) -> None:
        self.count(kind)
        if state.broken:
            # One thread of the client does all downloads, and waits itself before it tries again.
            with self._downloads:
                time.sleep(state.delay)
            raise OSError(errno.EIO, "no server")
        time.sleep(state.delay)
        name = hashlib.sha1(os.fsencode(key)).hexdigest()
        transaction = f"{self._place}/txn/fetch{next(self._numbers)}"
        os.close(os.open(transaction, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.rename(transaction, f"{self._place}/{name[:2]}/{name[2:]}")


def catalogues_above(path: str, below: bool = False) -> list[str]:
    """The directories above ``path``, from the top, whose catalogues know of it; with ``below``
    that of ``path`` itself, too. The root isn't among them."""
    parts = path.split("/")
    last = len(parts) if below else len(parts) - 1
    above = ("/".join(parts[: end + 1]) for end in range(1, min(last, _DEPTH + 1)))
    return [each for each in above if _CATALOGUES.fullmatch(each)]


def is_last(catalogue: str) -> bool:
    """Whether there are no catalogues below the one of this directory."""
    return bool(_LAST.fullmatch(catalogue))
