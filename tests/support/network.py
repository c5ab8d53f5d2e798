# SPDX-License-Identifier: Apache-2.0
"""A network of a test's own: addresses of the Internet and of clouds, all on this machine."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterable

from tests.support.required import required

_CLONE_NEWNET = 0x40000000


def in_own_network(addresses: Iterable[str], body: Callable[[], None]) -> None:
    """Run ``body`` in a network namespace whose loopback interface has ``addresses``, too.

    A namespace is a thread's, and that of the threads and processes which it starts: ``body`` runs
    in a thread of its own, servers and all. What it raises is raised here.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
                reason = os.strerror(ctypes.get_errno())
                required(f"no network namespace: {reason}")
            for address in addresses:
                length = 128 if ":" in address else 32
                # nodad: an IPv6 address is of use at once.
                extra = ["nodad"] if ":" in address else []
                _ip("address", "add", f"{address}/{length}", "dev", "lo", *extra)
            _ip("link", "set", "lo", "up")
            body()
        except BaseException as err:
            failures.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _ip(*args: str) -> None:
    try:
        subprocess.run(["ip", *args], check=True, capture_output=True)
    except FileNotFoundError:
        required("no ip: its package is iproute2")
