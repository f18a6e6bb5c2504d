"""A router whose connects the test completes, and clients of a relay and of a tunnel on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred

from gateway.errors import RequestRefused, UnknownSession, UpstreamUnavailable
from gateway.protocols.commands import Kind
from gateway.protocols.http import Fields
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Route, Routes
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    RANDOM_BYTES,
    ServerHandshake,
)
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.introducing import Means
from gateway.tunnels.relay_table import RelayTable
from gateway.tunnels.routing import Router
from gateway.tunnels.table import SessionTable
from gateway.upstreams.pool import Ready
from gateway.upstreams.rtmpe_transport import HandshakeFailed
from tests.helpers.line import Line
from tests.helpers.own_count import OwnCount

LIMITS = Limits()
FIELDS = Fields(1, ((b"host", b"gateway"),), 0, False, True, False)
C0_C1 = b"\x03" + bytes(8) + bytes(range(256)) * 5 + bytes(BLOCK_BYTES - 8 - 1280)
C2 = bytes(BLOCK_BYTES)
CONNECT_MESSAGE = Command("connect", 1.0, {"app": "live", "tcUrl": "rtmp://public/live"}).message()
CONNECT = ChunkWriter().write(CONNECT_MESSAGE)
ROUTES = (Route(("live",), applications=["live"]), Route(("vod",), applications=["vod"]))


class Bench:
    """A router with its clock, and the connects that it has begun. ``servers`` have accepted."""

    def __init__(self, *routes: Route) -> None:
        self.now = 1000.0
        self.admission = Admission(LIMITS, 1 << 30, OwnCount())
        self.asked: list[tuple[str, tuple[str, ...], str]] = []
        self.stream_keys: list[str] = []
        self.dials: list[tuple[Any, Deferred[str]]] = []
        self.placed: list[tuple[str, float]] = []
        self.ends: list[EndReason] = []
        self.refused: list[RequestRefused] = []
        self.opened = 0
        # The number of servers, and the errors of those that were not ready.
        self.servers = 1
        self.failures: list[HandshakeFailed] = []
        self.soon: list[Callable[[], None]] = []
        self.observe: Callable[[Any], None] = lambda session: None
        means = Means(self._connect, LIMITS, self.clock, self.soon.append, bytes, self)
        self.router = Router(Routes(routes or ROUTES), means)

    def clock(self) -> float:
        return self.now

    def session_opened(self, session: Any) -> None:
        self.opened += 1

    def session_placed(self, session: Any, seconds: float) -> None:
        self.placed.append((session.server, seconds))
        self.observe(session)

    def session_ended(self, session: Any, reason: EndReason) -> None:
        self.ends.append(reason)

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.refused.append(error)

    async def _connect(
        self,
        protocol: Any,
        client: str,
        upstreams: tuple[str, ...] = (),
        key: str = "",
        is_ready: Ready | None = None,
        stream_key: str = "",
    ) -> str:
        self.stream_keys.append(stream_key)
        self.asked.append((client, upstreams, key))
        while True:
            dial: Deferred[str] = Deferred()
            self.dials.append((protocol, dial))
            name = await dial
            try:
                if is_ready is not None:
                    await is_ready(name)
            except HandshakeFailed as error:
                self.failures.append(error)
                if len(self.failures) == self.servers:
                    raise UpstreamUnavailable("no upstream server accepted") from None
            else:
                return name

    def accepts(
        self,
        room: float = float("inf"),
        with_handshake: bool = False,
        name: str = "media:1935",
    ) -> Line:
        """A server accepts the connection, and makes its handshake before anybody looks."""
        protocol, dial = self.dials.pop(0)
        line = Line(room).connect(protocol)
        if with_handshake:
            answer(line)
        dial.callback(name)
        return line

    def shakes_hands(self, room: float = float("inf")) -> tuple[Line, int]:
        """A server accepts, and makes its handshake. Returns also how much it has received then."""
        server = self.accepts(room)
        server.reads()
        answer(server)
        return server, HANDSHAKE_BYTES

    def refuses(self) -> None:
        _, dial = self.dials.pop(0)
        dial.errback(UpstreamUnavailable("no upstream server accepted the connection"))

    def turn(self) -> None:
        """The next iteration of the reactor."""
        soon, self.soon[:] = list(self.soon), []
        for call in soon:
            call()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.router.sweep(self.now)
        self.turn()

    @property
    def kept(self) -> int:
        """The introductions with a deadline."""
        return len(self.router._introductions)


def answer(server: Line, words: bytes = b"") -> None:
    """The server answers the gateway's handshake, and says ``words`` behind it."""
    assert server.received[0] == 3
    handshake = ServerHandshake(5, bytes(RANDOM_BYTES))
    server.says(handshake.receive(bytes(server.received)) + words)


class RelayedClient:
    """A client of RTMP or RTMPS."""

    def __init__(self, bench: Bench) -> None:
        self.line = Line().connect(Waiting())
        self.table = RelayTable(
            LIMITS, bench.admission, lambda: "relay", bench.router.connect, bench.clock, bench
        )
        self._begun = False

    @property
    def received(self) -> bytes:
        return bytes(self.line.received)

    @property
    def reads(self) -> bool:
        return self.line.reading

    @property
    def session(self) -> Any:
        (relay,) = self.table._relays
        return relay

    @property
    def side(self) -> Any:
        return self.session.upstream

    @property
    def way(self) -> Any:
        """The upstream's transport."""
        return self.side.transport

    def says(self, data: bytes) -> None:
        if self._begun:
            self.line.says(data)
        else:
            self._begun = True
            self.table.open("192.0.2.1", self.line, data)
            self.line.turn()

    def leaves(self) -> None:
        self.line.resets()


class Waiting:
    """The protocol of a client's connection before detection."""

    def makeConnection(self, transport: Any) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        pass


class TunnelledClient:
    """A client of RTMPT or RTMPTS: its bytes come in sends, and it polls for what it receives."""

    may_stream = False
    round_trip_s = 0.0

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        ids = SessionIds("aa", 0, bytes)
        self.table = SessionTable(
            LIMITS, 0.5, bench.admission, ids, bench.router.connect, bench.clock, bench
        )
        self.session_id = b""
        self._data = bytearray()
        self._number = 0
        self.reads = True
        self.table.open("192.0.2.1", FIELDS, self)
        (self.session,) = self.table._tunnels.values()

    def answer(self, body: bytes) -> None:
        if self.session_id:
            self._data += body[1:]
            self.reads = True
        else:
            self.session_id = body

    def refuse(self, error: RequestRefused) -> None:
        """A withheld send of a session that has ended."""

    @property
    def side(self) -> Any:
        return self.session

    @property
    def way(self) -> Any:
        """The upstream's transport."""
        return self.session._transport

    @property
    def received(self) -> bytes:
        with suppress(UnknownSession):
            while self._command(Kind.IDLE, b"\0"):
                pass
        return bytes(self._data)

    def says(self, data: bytes) -> None:
        self._command(Kind.SEND, data)

    def leaves(self) -> None:
        self.session.session.close(self._bench.now)

    def _command(self, kind: Kind, body: bytes) -> bytes:
        """The data in the answer."""
        session, number = self.session.session, self._number
        answer = session.receive(kind, number, body, self._bench.now, False)
        self._number += 1
        if answer is None:
            self.reads = False
            session.wait(number, self, self._bench.now)
        self._data += (answer or b"")[1:]
        return (answer or b"")[1:]


Make = Callable[[Bench], Any]


def connecting(make: Make, bench: Bench, behind: bytes = b"", connect: bytes = CONNECT) -> Any:
    """A client that has sent its connect, and ``behind``."""
    client = make(bench)
    client.says(C0_C1)
    client.says(C2 + connect + behind)
    return client
