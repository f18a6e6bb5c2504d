"""An admin server over a gateway in memory, with HTTP over transports in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast, final

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.server import Site
from gateway.admin.resources.endpoints import Endpoints
from gateway.admin.resources.event_streams import EventStreams
from gateway.admin.status_page.page import Page
from gateway.admin.time_slices import TimeSlices
from gateway.protocols.limits import Limits
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.exposition.session_collector import SessionCollector
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.measurement.latency import Estimate
from gateway.telemetry.measurement.tcp_info import TcpInfo
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary
from gateway.tunnels.admission import Admission
from gateway.workers.view import WorkerView
from tests.helpers.fabricated_telemetry import Node, health, mirrors, session_exposition
from tests.helpers.own_count import OwnCount


class Figures:
    """A worker's telemetry, with fabricated sessions."""

    def __init__(self, node: Node) -> None:
        self.loop = node.loop
        self.sessions = node.sessions
        self.metrics = node.metrics
        self.session_metrics = SessionCollector(node.sessions, 1000)
        self.servers: list[UpstreamHealth] = health()
        self.mirror_states = mirrors()

    def mirrors(self) -> list[MirrorState]:
        return self.mirror_states

    def upstream_health(self) -> list[UpstreamHealth]:
        return self.servers


@final
class OneWorker:
    """A gateway of one worker in this process."""

    def __init__(self, server: AdminServer, time_slices: Callable[[], TimeSlices]) -> None:
        self._server = server
        self.worker: Any = WorkerView(
            cast(Any, server.figures), server.admission, server.threshold, time_slices
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.worker, name)

    async def session_metrics(self, accept: str, wanted: SessionFilter) -> AsyncIterator[bytes]:
        for piece in session_exposition(self._server.figures.session_metrics, accept, wanted):
            yield piece

    async def is_draining(self) -> bool:
        return self._server.admission.draining

    async def drain_upstream(self, server: str, on: bool) -> bool:
        return self._change_server(server, "drained" if on else "not drained")

    async def down_upstream(self, server: str) -> bool:
        return self._change_server(server, "down")

    async def up_upstream(self, server: str) -> bool:
        return self._change_server(server, "up")

    def _change_server(self, server: str, change: str) -> bool:
        self._server.server_changes.append((server, change))
        return server in ("media:1935", "rtmps://media:443")

    async def reload(self) -> list[str]:
        if isinstance(self._server.reloads, Exception):
            raise self._server.reloads
        return self._server.reloads

    async def log_level(self) -> str | None:
        return self._server.threshold.level if self._server.threshold is not None else None

    async def set_log_level(self, level: str) -> None:
        self.worker.set_log_level(level)


class Transport(StringTransport):
    """A transport with the other methods that ``twisted.web`` calls."""

    aborted = False

    def abortConnection(self) -> None:
        if not self.aborted:
            self.aborted = self.disconnecting = True
            self.ended()

    ended: Callable[[], None]

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


@frozen
class Response:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class AdminServer:
    """The admin server without its socket. The test advances the reactor's time; ``spends``, if any,
    gives the time that work takes instead."""

    def __init__(
        self, *guard: Any, spends: Callable[[], float] | None = None, **guards: Any
    ) -> None:
        self.reactor = Clock()
        self.node = Node()
        self.figures = Figures(self.node)
        self.admission = Admission(Limits(), 1 << 30, OwnCount())
        self.logged: list[Any] = []
        self.threshold: LevelFilter | None = LevelFilter(self.logged.append, "info")
        time_slices = partial(TimeSlices, self.reactor, spends or self.reactor.seconds)
        self.reloads: list[str] | Exception = ["certificates"]
        self.server_changes: list[tuple[str, str]] = []
        self.view: Any = OneWorker(self, time_slices)
        wall_now = self.node.sessions.wall_now
        self.watching = EventStreams(self.view, time_slices, self.reactor.seconds, wall_now)
        self.endpoints = Endpoints(self.view, self.watching, Page())
        self.site = Site(
            self.reactor, AccessControl(*guard, **guards), self.endpoints.answer, time_slices
        )

    def connect(self) -> tuple[Any, Transport]:
        protocol = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport = Transport()
        transport.ended = lambda: protocol.connectionLost(Failure(ConnectionAborted()))
        protocol.makeConnection(transport)
        return protocol, transport

    def exchange(self, request: bytes) -> bytes:
        """Send these bytes on a new connection. Returns the response."""
        protocol, transport = self.connect()
        protocol.dataReceived(request)
        self.let_run()
        return transport.value()

    def let_run(self, turns: int = 50) -> None:
        for _ in range(turns):
            self.reactor.advance(0)

    def ask(self, method: str, target: str, body: bytes = b"", **fields: str) -> Response:
        head = {"Host": "localhost:9935", "Content-Length": str(len(body)), **fields}
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in head.items()]
        return parse("\r\n".join([*lines, "", ""]).encode() + body, self.exchange)


def parse(request: bytes, exchange: Callable[[bytes], bytes]) -> Response:
    head, _, body = exchange(request).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    if fields.get("Transfer-Encoding") == "chunked":
        body = b"".join(_chunks(body))
    return Response(int(first.split()[1]), fields, body)


def _chunks(body: bytes) -> list[bytes]:
    found = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    return found


def summary(**changes: Any) -> Summary:
    """A session without delays, except for ``changes``; latencies in seconds."""
    latencies = {
        name: Estimate(value, value, value, value, 10)
        for name, value in changes.pop("latencies", {"downstream_wait": 0.0}).items()
    }
    round_trip_s = changes.pop("round_trip_s", 0.02)
    tcp = TcpInfo(round_trip_s, 0.001, changes.pop("retransmits", 0))
    values: dict[str, Any] = {
        **dict.fromkeys(("listener", "client", "reason"), ""),
        **dict.fromkeys(("media_drift_s",)),
        **dict.fromkeys(("bytes_up", "bytes_down", "buffered_bytes", "sends", "idles"), 0),
        **dict.fromkeys(("closes", "repeats", "reorders", "held_answers", "connections"), 0),
        **dict.fromkeys(("empty_answers", "filled_answers"), 0),
        "alias": "0000-1",
        "protocol": "rtmpt",
        "upstream": "media:1935",
        "address": "192.0.2.1",
        "proxies": (),
        "application": "live",
        "stream": "camera",
        "action": "play",
        "state": "ordinary",
        "opened_at": 1.7e9,
        "duration_s": 60.0,
        "upstream_connect_s": 0.004,
        "latencies": latencies,
        "tcp": tcp,
    }
    return Summary(**{**values, **changes})
