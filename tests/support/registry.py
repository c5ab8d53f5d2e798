# SPDX-License-Identifier: Apache-2.0
"""A real registry (distribution's, as Debian packages it) on the loopback interface."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import requests

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {data}}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: "{address}"}}
"""

#: The common log format, as much of it as we use.
_ACCESS = re.compile(r'\S+ \S+ \S+ \[[^]]*\] "([A-Z]+) (\S+) HTTP/[\d.]+" (\d+) (\d+|-)')

_START_SECONDS = 20


@dataclass(frozen=True)
class Request:
    """One line of the access log; ``size`` is the body's length in bytes."""

    method: str
    path: str
    status: int
    size: int

    @property
    def is_blob(self) -> bool:
        """Whether a blob's content was asked for."""
        return self.method == "GET" and "/blobs/" in self.path


class Registry:
    """A registry storing below ``root``; it keeps its port when stopped and started again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._log = root / "access.log"
        self._process: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = _CONFIG.format(data=root / "data", address=self.address)
        (root / "config.yml").write_text(config)
        self.start()

    @property
    def url(self) -> str:
        """The registry's base address, without a slash at the end."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Start serving, and wait until it answers. Does nothing if it runs."""
        if self._process is not None:
            return
        binary = shutil.which("docker-registry") or "/usr/bin/docker-registry"
        with open(self._log, "ab") as log, open(self._root / "errors.log", "ab") as errors:
            self._process = subprocess.Popen(
                [binary, "serve", str(self._root / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = (self._root / "errors.log").read_text(errors="replace")[-1000:]
                raise RuntimeError(f"docker-registry doesn't start: {said}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/v2/", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        """Stop serving; what was pushed stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def requests(self) -> list[Request]:
        """All requests answered so far, oldest first."""
        found = map(_ACCESS.match, self._log.read_text(errors="replace").splitlines())
        return [
            Request(m.group(1), m.group(2), int(m.group(3)), int(m.group(4).replace("-", "0")))
            for m in found
            if m
        ]

    def since(self, mark: int) -> list[Request]:
        """The requests after the first ``mark``; take the mark with ``len(requests())``.

        A request is logged a moment after it is answered, so wait until the log is at rest.
        """
        before = -1
        while True:
            now = self.requests()
            if len(now) == before:
                return now[mark:]
            before = len(now)
            time.sleep(0.05)

    def push_blob(self, repository: str, digest: str, data: bytes) -> None:
        """Upload one blob (OCI distribution-spec, "Pushing blobs")."""
        if requests.head(f"{self.url}/v2/{repository}/blobs/{digest}", timeout=30).ok:
            return
        begun = requests.post(f"{self.url}/v2/{repository}/blobs/uploads/", timeout=30)
        begun.raise_for_status()
        requests.put(
            begun.headers["Location"],
            params={"digest": digest},
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            timeout=60,
        ).raise_for_status()

    def push_manifest(self, repository: str, tag: str, media_type: str, data: bytes) -> None:
        """Upload one manifest byte for byte."""
        requests.put(
            f"{self.url}/v2/{repository}/manifests/{tag}",
            data=data,
            headers={"Content-Type": media_type},
            timeout=30,
        ).raise_for_status()
