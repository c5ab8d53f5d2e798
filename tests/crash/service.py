# SPDX-License-Identifier: Apache-2.0
"""A long-running ``podman system service``, spoken to over its socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.podman import Podman
from tests.support.processes import started

_START_SECONDS = 20
_END_SECONDS = 20


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Service:
    """The service that listens at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Return status and answer of one request, decoded if it is JSON."""
        with contextlib.closing(_Connection(self._path)) as connection:
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"}
            connection.request(method, f"/v4.0.0/libpod/{path}", data, headers)
            response = connection.getresponse()
            answer: Any = response.read().decode()
            with contextlib.suppress(ValueError):
                answer = json.loads(answer)
            return response.status, answer

    def names(self) -> dict[str, str]:
        """Name -> image ID of all images it knows."""
        status, images = self.ask("images/json")
        assert status == 200, images
        return {name: each["Id"] for each in images for name in each.get("Names") or []}


@contextlib.contextmanager
def service(podman: Podman, root: Path) -> Iterator[Service]:
    """A running service of ``podman``, with its socket in ``root``."""
    path = root / "s"
    argv = [podman.binary, "system", "service", "--time=0", f"unix://{path}"]
    with started(
        podman.namespace.command(argv),
        env=podman.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + _START_SECONDS
        running = Service(path)
        while True:
            with contextlib.suppress(OSError):
                running.ask("version")
                break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield running
        process.terminate()
        process.wait(_END_SECONDS)
