"""A client's session against a gateway's HTTP side, in memory; the test delays and cuts the connections.

Bytes wait on a ``_Connection`` in both directions until the test moves them on.
"""

from __future__ import annotations

from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.client import TunnelClient
from gateway.protocols.tunnel_client.interfaces import End
from gateway.protocols.tunnel_client.requests import Requests
from gateway.protocols.tunnel_options import MOST_LANES, REQUEST
from tests.helpers.http_conversation import HOLD_S, Gateway, Upstream, Wire

# No event is further away, so a session that does nothing for so long has stopped.
_STEPS = 10_000
_TICK_S = 0.05


class _Connection:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.up = bytearray()
        self.down = bytearray()
        self._taken = 0
        # Nothing passes any longer, and neither side is told.
        self.is_silent = False

    def move_up(self, count: int) -> None:
        if self.wire.lost:
            return
        data = bytes(self.up[:count])
        del self.up[:count]
        if data:
            self.wire.arrive(data)

    def fetch(self) -> None:
        """Put what the gateway has written under way."""
        written = self.wire.writes[self._taken :]
        self._taken += len(written)
        self.down += b"".join(written)

    @property
    def is_ended(self) -> bool:
        """Whether the gateway has closed its side."""
        return self.wire.write_closed or self.wire.aborted or self.wire.closing


class Simulation:
    """``agrees``: whether the gateway agrees on the options. ``direct``: whether no proxy is seen."""

    def __init__(
        self,
        agrees: bool = True,
        direct: bool = True,
        limits: Limits = Limits(),
        hold_s: float = HOLD_S,
    ) -> None:
        self.gateway = Gateway(limits, hold_s)
        self.connections: list[_Connection | None] = [None] * MOST_LANES
        self.to_connect: set[int] = set()
        self.refuses = False
        self.down = bytearray()
        self.is_open = False
        self.end: End | None = None
        self.cause = ""
        self.drains = 0
        # Silent connections that the client has closed: what was sent on them may still arrive.
        self.ghosts: list[_Connection] = []
        self.requests: list[bytes] = []
        self._agrees = agrees
        self._direct = direct
        self.client = TunnelClient(limits, Requests("gateway.example"), self, self)
        self.client.start(self.now)

    @property
    def now(self) -> float:
        return self.gateway.clock.now

    @property
    def upstream(self) -> Upstream:
        return self.gateway.upstreams[0]

    @property
    def sent_up(self) -> bytes:
        """What has arrived at the media server."""
        return b"".join(self.upstream.received)

    # Links

    def connect_link(self, link: int) -> None:
        assert self.connections[link] is None
        self.to_connect.add(link)

    def unacknowledged_on(self, link: int) -> int:
        return 0

    def write_link(self, link: int, first: bytes, second: bytes) -> None:
        connection = self.connections[link]
        assert connection is not None, "written to a connection that is not established"
        self.requests.append(first.partition(b" HTTP/")[0])
        if not self._agrees:
            first = first.replace(REQUEST, b"")
        if not self._direct:
            first = first.replace(b"Connection: keep-alive", b"Connection: Keep-Alive")
        connection.up += first + second

    def close_link(self, link: int) -> None:
        self.to_connect.discard(link)
        connection, self.connections[link] = self.connections[link], None
        if connection is not None and connection.is_silent:
            self.ghosts.append(connection)
        elif connection is not None:
            connection.move_up(len(connection.up))
            if not connection.wire.lost:
                connection.wire.lose()

    # Receiver

    def opened(self) -> None:
        self.is_open = True

    def received(self, data: bytes) -> None:
        assert data, "an empty piece"
        self.down += data

    def drained(self) -> None:
        self.drains += 1

    def ended(self, end: End, cause: str) -> None:
        assert self.end is None, "ended twice"
        self.end, self.cause = end, cause

    # The network

    def establish(self) -> None:
        for link in tuple(self.to_connect):
            self.to_connect.discard(link)
            if self.refuses:
                self.client.lost(link, self.now, End.LOST, "refused")
            else:
                self.connections[link] = _Connection(self.gateway.accept())
                self.client.connected(link, self.now)

    def move_up(self, link: int, count: int = 1 << 30) -> None:
        connection = self.connections[link]
        if connection is not None and not connection.is_silent:
            connection.move_up(count)
            self.gateway.turn()

    def move_down(self, link: int, count: int = 1 << 30) -> None:
        connection = self.connections[link]
        if connection is None or connection.is_silent:
            return
        connection.fetch()
        data = bytes(connection.down[:count])
        del connection.down[:count]
        if data:
            self.client.receive(link, data, self.now)
        elif connection.is_ended:
            self._lose(link)

    def cut(self, link: int, arrives: bool = False, unnoticed: bool = False) -> None:
        """Cut a connection. ``arrives``: what the client has sent on it arrives nevertheless.
        ``unnoticed``: the gateway is not told.
        """
        connection = self.connections[link]
        if connection is not None:
            if arrives:
                self.move_up(link)
            self._lose(link, unnoticed)

    def silence(self, link: int) -> None:
        """From now on nothing passes on a connection, as if the client's address had changed."""
        connection = self.connections[link]
        if connection is not None:
            connection.is_silent = True

    def arrive_late(self, count: int) -> None:
        """More of what was sent on a connection that is gone arrives at the gateway."""
        if self.ghosts:
            ghost = self.ghosts[0]
            ghost.move_up(count)
            self.gateway.turn()
            if not ghost.up:
                del self.ghosts[0]
                if not ghost.wire.lost:
                    ghost.wire.lose()

    def _lose(self, link: int, unnoticed: bool = False) -> None:
        connection = self.connections[link]
        if connection is None:
            return
        self.connections[link] = None
        if not (connection.wire.lost or unnoticed):
            connection.wire.lose()
        self.client.lost(link, self.now)

    # The time

    def passes(self, seconds: float) -> None:
        """The time passes; what is due happens."""
        self.gateway.passes(seconds)
        if self.client.deadline <= self.now:
            self.client.expire(self.now)
            assert self.client.deadline > self.now, "a deadline that stays in the past"

    def flow(self) -> None:
        """Everything under way arrives, without delay, until nothing moves."""
        for _ in range(_STEPS):
            before = (len(self.requests), len(self.down), self.is_open, self.end)
            self.establish()
            for link in range(MOST_LANES):
                self.move_up(link)
            for link in range(MOST_LANES):
                self.move_down(link)
            if before == (len(self.requests), len(self.down), self.is_open, self.end):
                return
        raise AssertionError("it never comes to rest")

    def open(self) -> Simulation:
        """Until the session is open."""
        self.flow()
        assert self.is_open, self.cause
        return self

    def settle(self, seconds: float) -> None:
        """The time passes, and nothing is delayed."""
        for _ in range(int(seconds / _TICK_S)):
            self.flow()
            self.passes(_TICK_S)
        self.flow()
