# SPDX-License-Identifier: Apache-2.0
"""Decides how long to wait for a registry, and when to stop asking it. No network.

One image must not wait long for a registry. Ten thousand images must not each find out again that
it is down or refuses.
"""

from __future__ import annotations

import email.utils
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable

from podman_cvmfs.errors import RegistryBusy, RegistryError, RegistryUnreachable

#: How long a host that refused or didn't answer is left alone, in seconds, if it doesn't say.
_REST = 60.0
_FIRST_PAUSE = 0.5
#: A server's fault may be one image's; as many in a row are all images'.
_FAULTS_IN_A_ROW = 5
#: So is one document that doesn't come in time; but each costs its wait.
_LATE_IN_A_ROW = 3


class Patience:
    """Remembers which hosts refused, for all threads.

    ``attempts`` is how often a request is sent at most. Longer pauses than ``max_pause`` seconds
    are not made. Refusals are kept by ``whom`` we ask, and by that and the kind of request: a limit
    on manifests doesn't count for blobs.
    """

    def __init__(self, attempts: int, max_pause: float) -> None:
        self.attempts = attempts
        self._max_pause = max_pause
        self._lock = threading.Lock()
        #: Until when (monotonic time) not to ask, and how it ended.
        self._resting: dict[tuple[Hashable, str], tuple[float, RegistryError]] = {}
        #: Until when all threads hold back, since one of them was told to.
        self._held: dict[tuple[Hashable, str], float] = {}
        self._faults: Counter[tuple[Hashable, str]] = Counter()
        #: Documents that didn't come in time since the last that came.
        self._late: dict[tuple[Hashable, str], set[Hashable]] = {}

    def check(self, whom: Hashable, kind: str, subject: str) -> None:
        """Raise the RegistryError of the last request, in words for ``subject``, if it isn't time
        to ask again."""
        for key in ((whom, ""), (whom, kind)):
            until, error = self._resting.get(key, (0.0, None))
            if error is not None and time.monotonic() < until:
                cause = error.message.partition(": ")[2]
                raise type(error)(f"{subject}: {cause}", error.hint)

    def hold_back(self, whom: Hashable, kind: str) -> None:
        """Wait as long as another thread was told to."""
        left = self._held.get((whom, kind), 0.0) - time.monotonic()
        if left > 0:
            pause(min(left, self._max_pause))

    def back_off(self, attempt: int) -> None:
        """Wait before the attempt after this one."""
        pause(self._back_off(attempt))

    def unreachable(self, whom: Hashable, error: RegistryUnreachable) -> None:
        """Remember that ``whom`` doesn't answer."""
        with self._lock:
            self._resting[whom, ""] = (time.monotonic() + _REST, error)

    def timed_out(
        self, whom: Hashable, kind: str, document: Hashable, error: RegistryError
    ) -> RegistryError:
        """Remember that ``document`` didn't come in time. Return the error to raise, with the text
        of ``error``: RegistryBusy, or RegistryUnreachable if others before it didn't come
        either."""
        with self._lock:
            late = self._late.setdefault((whom, kind), set())
            late.add(document)
            is_lasting = len(late) >= _LATE_IN_A_ROW
        if not is_lasting:
            return RegistryBusy(error.message, error.hint)
        gone = RegistryUnreachable(error.message, error.hint)
        self.unreachable(whom, gone)
        return gone

    def answered(self, whom: Hashable, kind: str) -> None:
        """Remember that a document has come."""
        with self._lock:
            self._late.pop((whom, kind), None)

    def may_ask_again(
        self,
        whom: Hashable,
        kind: str,
        attempt: int,
        status: int,
        retry_after: str,
        refusal: Callable[[], RegistryError],
    ) -> bool:
        """Judge an answer by its status. True after a pause, if the request should be sent again.
        Otherwise the answer counts, and a refusal is remembered."""
        key = (whom, kind)
        if status != 429 and status < 500:
            self._faults.pop(key, None)
            return False
        asked = _seconds(retry_after)
        wanted = self._back_off(attempt) if asked is None else asked
        if attempt < self.attempts and wanted <= self._max_pause:
            if status == 429:
                self._held[key] = time.monotonic() + wanted
            pause(wanted)
            self._held.pop(key, None)
            return True
        with self._lock:
            self._faults[key] += 1
            is_lasting = self._faults[key] >= _FAULTS_IN_A_ROW
            rest = max(asked or 0.0, _REST) if is_lasting or asked is None else asked
            if status == 429 or is_lasting:
                self._resting[key] = (time.monotonic() + rest, refusal())
        return False

    def _back_off(self, attempt: int) -> float:
        return min(_FIRST_PAUSE * 2.0 ** (attempt - 1), self._max_pause)


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def _seconds(text: str) -> float | None:
    """How long a Retry-After header asks us to wait (RFC 9110, 10.2.3); None if it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
