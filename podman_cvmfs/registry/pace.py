# SPDX-License-Identifier: Apache-2.0
"""Bounds to how long a registry may answer.

A socket's time limit is for one wait. A server that sends one byte in each wait could hold us up
for ever, even in a header. So the sum of all waits for one answer is limited, depending on the
bytes that have come. The time that we ourselves need to process them doesn't count. http.client
also reads interim answers (100 Continue) without end; these are limited, too.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

#: How long, in a socket's time limits, an answer may come slower than ``_SLOWEST``.
_WAITS = 2
#: Bytes a second: less is no use to anybody.
_SLOWEST = 1024
#: Bytes that may come before the body.
_LONGEST_HEAD = 1 << 20


class _Paced(io.RawIOBase):
    """The data of ``source``. If it comes too slowly, reading raises TimeoutError. If it has more
    than ``bound`` bytes, reading raises HTTPException."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._raw = source.makefile("rb", buffering=0)
        self._limit = source.gettimeout()
        self._waited = 0.0
        self._received = 0
        self.bound: int | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Wait for at most as many bytes as fit into ``buffer``; return the number read, 0 at the
        end."""
        if self._limit is not None:
            left = self._limit * _WAITS + self._received / _SLOWEST - self._waited
            if left <= 0:
                # Python 3.9 has two errors for it, and urllib3 minds this one.
                raise socket.timeout("the answer comes too slowly")
            self._source.settimeout(min(self._limit, left))
        start = time.monotonic()
        try:
            count = self._raw.readinto(buffer)
        finally:
            self._waited += time.monotonic() - start
        self._received += count or 0
        if self.bound is not None and self._received > self.bound:
            raise http.client.HTTPException("a head without end")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class PacedResponse(http.client.HTTPResponse):
    """An answer of http.client's with a bounded head. Reading raises TimeoutError if it comes too
    slowly."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._paced = _Paced(sock)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        self._paced.bound = _LONGEST_HEAD
        super().begin()
        self._paced.bound = None
