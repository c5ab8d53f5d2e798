# SPDX-License-Identifier: Apache-2.0
"""Stands before a server, and lets each answer wait as a distant server would."""

from __future__ import annotations

import socket
import threading
import time


class SlowProxy:
    """Passes connections on to ``target`` (host:port); each piece that the client sends waits
    ``delay`` seconds, so each request does."""

    def __init__(self, target: str, delay: float) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._delay = (host, int(port)), delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> SlowProxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, delay in ((client, server, self._delay), (server, client, 0.0)):
                threading.Thread(target=self._pass, args=(source, sink, delay), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, delay: float) -> None:
        try:
            while data := source.recv(1 << 16):
                time.sleep(delay)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for each in (source, sink):
                each.close()
