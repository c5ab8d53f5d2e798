# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server on loopback that answers whatever a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Notes each request and gives the answer of the first prefix that fits its path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.requests.append((self.path, dict(self.headers)))
        for prefix, answer in self.server.answers.items():
            if self.path.startswith(prefix):
                answer(self)
                return
        self.reply(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer; underscores in the names of headers become hyphens."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


Answer = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """``answers`` by prefix of the path; ``requests`` are the paths and headers so far."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def address(self) -> str:
        host = str(self.server_address[0])
        return f"[{host}]:{self.server_port}" if ":" in host else f"{host}:{self.server_port}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def handle_error(self, *args: object) -> None:
        pass


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[Server]:
    """A server on the address ``host`` that runs until the end of the context."""
    with Server(host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def give(body: bytes, status: int = 200, **headers: str) -> Answer:
    """The same answer each time."""
    return lambda handler: handler.reply(status, body, **headers)


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, then the last one again and again."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)
