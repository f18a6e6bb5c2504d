"""A TCP server that sends back what it receives, to show whether bytes are lost, doubled or reordered."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any, final

# Version 3, with which an RTMP handshake begins.
_RTMP = b"\x03"


class _Echo(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        # A gateway resets the connection of a session that has ended.
        with suppress(ConnectionError):
            if self.server.rtmp_port and self.request.recv(1, socket.MSG_PEEK) == _RTMP:
                self._relay()
            else:
                _copy(self.request, self.request)

    def _relay(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.rtmp_port)) as upstream:
            back = Thread(target=_copy, args=(upstream, self.request), daemon=True)
            back.start()
            _copy(self.request, upstream)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    if sink is not source:
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, port: int, rtmp_port: int) -> None:
        self.rtmp_port = rtmp_port
        self._lock = Lock()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Echo)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Here and not in the connection's thread, which may begin later: ``cut`` must find it.
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.remove(request)
        super().shutdown_request(request)

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._connections)

    def refuse_pending(self) -> int:
        """Close connections that the kernel has accepted and this server has not; returns their number."""
        self.socket.setblocking(False)
        refused = 0
        with suppress(BlockingIOError):
            while True:
                self.socket.accept()[0].close()
                refused += 1
        return refused

    def cut(self) -> int:
        """Close all connections; returns their number."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            return len(self._connections)


@final
class EchoServer:
    """``cuts``: the number of connections that restarts have cut. ``rtmp_port``: of a server to which RTMP
    is relayed; 0 for none.
    """

    def __init__(self, rtmp_port: int = 0) -> None:
        self.cuts = 0
        self._rtmp_port = rtmp_port
        self._server = self._start(0)
        self.port: int = self._server.server_address[1]

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._server.connections

    def restart(self) -> None:
        """Close the socket and all connections, and open the socket again."""
        self.close()
        self.start()

    def start(self) -> None:
        """Open the socket of a closed server again."""
        self._server = self._start(self.port)

    def close(self) -> None:
        self._server.shutdown()
        self.cuts += self._server.refuse_pending()
        self._server.server_close()
        self.cuts += self._server.cut()

    def _start(self, port: int) -> _Server:
        server = _Server(port, self._rtmp_port)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@contextmanager
def echo_server() -> Iterator[int]:
    """Yields its port."""
    server = EchoServer()
    try:
        yield server.port
    finally:
        server.close()
