"""A TCP server that sends back what it receives, to show whether bytes are lost, doubled or reordered."""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        # A gateway resets the connection of a session that has ended.
        with suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024


@contextmanager
def echo_server() -> Iterator[int]:
    """Yields its port."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
