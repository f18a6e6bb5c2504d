"""An exposition with all samples that a gateway can have."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import final

from attrs import frozen

from gateway.errors import UpstreamUnavailable
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.telemetry.exposition.labels import Entrance, Expected
from gateway.telemetry.exposition.session_collector import SessionCollector
from gateway.telemetry.exposition.sources import Sources
from gateway.telemetry.exposition.text import exposition
from gateway.telemetry.exposition.upstream_families import upstream_families
from gateway.telemetry.exposition.worker_collector import WorkerCollector
from tests.helpers.fabricated_telemetry import (
    LIMITS,
    DatagramListener,
    Node,
    health,
    session_exposition,
)
from tests.helpers.interop.servers import LOOPBACK

_PROTOCOLS = ("rtmpt", "rtmpts", "rtmp", "rtmps")


@frozen
class _Transport:
    """The part of Twisted's transport that gives the kernel's figures."""

    socket: socket.socket

    def getHandle(self) -> socket.socket:
        return self.socket


def everything() -> str:
    """Both pages, one after the other."""
    return "".join(pages().values())


def pages() -> dict[str, str]:
    """The text of each page, by its path."""
    with (
        socket.create_server((LOOPBACK, 0)) as listening,
        socket.create_connection(listening.getsockname()) as connection,
    ):
        node = _busy_node(_Transport(connection))
        sessions = session_exposition(SessionCollector(node.sessions, 1000))
        return {
            "/metrics": b"".join(
                exposition([*node.metrics.families(), *upstream_families(health())])
            ).decode(),
            "/metrics/sessions": b"".join(sessions).decode(),
        }


def _busy_node(transport: _Transport) -> Node:
    """A node with sessions of all kinds: active, ended and refused."""
    node = Node()
    listener_states = [
        ("0.0.0.0:80", Counter(http=5, rtmp=1, denied=1)),
        ("0.0.0.0:443", Counter(http=5, tls=5, tls_failed=1)),
    ]
    certificates = [("/etc/site.pem", 2e9)]
    expected = Expected((Entrance("0.0.0.0:80"), Entrance("0.0.0.0:443", tls=True)), media=True)
    node.sources = Sources(
        *(
            LIMITS,
            1 << 30,
            lambda: 7,
            lambda: listener_states,
            health,
            lambda: certificates,
            expected,
        ),
        udp={"0.0.0.0:1935": DatagramListener()},
    )
    node.metrics = WorkerCollector(node.sessions, node.loop, node.sources)
    tunnels = [node.open(protocol) for protocol in (*_PROTOCOLS, *_PROTOCOLS)]
    for tunnel in tunnels:
        tunnel.figures.carried_by(transport, None)
        tunnel.figures.client_pinged(0.1)
        tunnel.figures.upstream_pinged(0.01)
        tunnel.figures.media_came(0.02)
        tunnel.figures.facts.drift_s = 0.001
    node.talk(tunnels, 10)
    for tunnel in tunnels[: len(_PROTOCOLS)]:
        tunnel.dismiss(EndReason.FAULT)
    node.sessions.open_refused(UpstreamUnavailable("none"), "192.0.2.1", Ingress())
    for tick in range(5):
        node.loop.sample(node.now + tick * 0.052)
    return node


@contextmanager
def shown(pages: dict[str, str]) -> Iterator[int]:
    """Serve ``pages``. Yields the port."""

    @final
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with closing(_Server((LOOPBACK, 0), Handler)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@final
class _Server(ThreadingHTTPServer):
    # Prometheus keeps its connections open; closing must not wait for it.
    daemon_threads = True

    def close(self) -> None:
        self.server_close()
