"""No data is lost, doubled or reordered between several connections of a client and an upstream.

A model client sends commands with increasing numbers on several connections, as many behind each other as
it likes. They arrive in parts. Connections are full, close, or are given up by the client before the
gateway knows it. Some are connections to another worker, which forwards the commands. The client repeats on
another connection what it has no answer to, and never has more than ten numbers open at once, which is what
a session promises to repeat. No command may be refused, and none may wait for good.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.protocols.limits import Limits
from gateway.tunnels.tunnel import Tunnel
from gateway.workers.peering.links import PeerLink, RemoteSession
from gateway.workers.peering.owner import PeerConnection
from tests.helpers.http_conversation import HOLD_S, Gateway, Upstream, Wire
from tests.workers.peering.test_forwarded_commands import Pipe

# As small as possible, but for deadlines, which the disorder may exceed, and for what has to be repeatable.
LIMITS = Limits(
    answer_bytes=4096,
    down_buffer_bytes=8192,
    up_buffer_bytes=8192,
    replay_bytes=10 * 4096,
    first_bytes_s=600.0,
    gap_s=600.0,
    silent_session_s=600.0,
    unused_session_s=600.0,
    stalled_write_s=600.0,
    keep_alive_s=600.0,
    head_s=600.0,
    body_s=600.0,
)
REPEATABLE = 10
MOST_CONNECTIONS = 4
# No value twice within an answer's distance: a byte out of its place is seen.
STREAM = b"".join(b"%07x\n" % count for count in range(1 << 15))
WHOLE = 1 << 20


class FullUpstream(Upstream):
    """An upstream whose write buffer is full above ``high_water_bytes``."""

    high_water_bytes = WHOLE
    is_full = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.unsent += len(data)
        if self.unsent > self.high_water_bytes and not self.is_full:
            self.is_full = True
            self.tunnel.pauseProducing()

    def drain(self) -> None:
        self.unsent = 0
        if self.is_full:
            self.is_full = False
            self.tunnel.resumeProducing()


class OwningGateway(Gateway):
    async def _connect(self, tunnel: Tunnel, session: Tunnel) -> str:
        self.upstreams.append(FullUpstream(tunnel))
        return "upstream:1935"


class ClientConnection:
    """A connection of the client. ``asked``: the numbers of its commands without an answer, in order.

    ``given_up``: the client does not use it any more, which the gateway may not know.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.asked: list[int] = []
        self.given_up = False
        self._on_the_way = b""
        self._unread = b""

    def ask(self, number: int, request: bytes) -> None:
        self.asked.append(number)
        self._on_the_way += request

    def deliver(self, size: int) -> None:
        if not self.wire.lost and self._on_the_way:
            data, self._on_the_way = self._on_the_way[:size], self._on_the_way[size:]
            self.wire.arrive(data)

    def lose(self) -> None:
        self.given_up = True
        if not self.wire.lost:
            self.wire.lose()

    def answers(self) -> list[tuple[int, bytes, bytes]]:
        """The answers since the last call: number, status and body."""
        written, self.wire.writes = b"".join(self.wire.writes), []
        self._unread += written
        found = []
        while b"\r\n\r\n" in self._unread:
            head, _, rest = self._unread.partition(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                break
            self._unread = rest[length:]
            found.append((self.asked.pop(0), head.split(b" ")[1], rest[:length]))
        return found


class SeveralConnections(RuleBasedStateMachine):
    """One session, its client and its upstream."""

    @initialize(
        high_water_bytes=st.sampled_from((WHOLE, 0, 500)),
        first=st.sampled_from((0, 1)),
        is_late=st.booleans(),
        is_elsewhere=st.booleans(),
    )
    def begin(self, high_water_bytes: int, first: int, is_late: bool, is_elsewhere: bool) -> None:
        self.owner, self.other = OwningGateway(LIMITS), Gateway(LIMITS)
        self.other.clock = self.other.service.clock = self.owner.clock
        self._join_workers()
        opener = self.owner.accept()
        opener.arrive(b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0")
        self.session_id = b"".join(opener.writes).rpartition(b"\r\n\r\n")[2].strip()
        self.upstream: Any = self.owner.upstreams[0]
        self.high_water_bytes = self.upstream.high_water_bytes = high_water_bytes
        self.connections: list[ClientConnection] = []
        # Word and body by number, and the answers.
        self.issued: dict[int, tuple[bytes, bytes]] = {}
        self.answers: dict[int, bytes] = {}
        self.first = self.next = first
        self.said = 0
        self._ask(self._issue(b"send", b"\x03begin"), self._connect(False))
        if not is_late:
            self.connections[0].deliver(WHOLE)
            self.upstream.drain()
        self._connect(is_elsewhere)

    def _join_workers(self) -> None:
        self.there, self.back = Pipe(), Pipe()
        link = PeerLink(lambda *_: None, Counter[str]())
        served = PeerConnection(self.owner.sessions.find_own, self.owner.clock)
        self.there.reader, self.back.reader = served, link
        link.makeConnection(self.there)
        served.makeConnection(self.back)
        self.other.sessions._find_elsewhere = lambda session_id: RemoteSession(link, session_id)

    # The client

    def _connect(self, is_elsewhere: bool) -> ClientConnection:
        gateway = self.other if is_elsewhere else self.owner
        self.connections.append(ClientConnection(gateway.accept()))
        return self.connections[-1]

    def _issue(self, word: bytes, body: bytes) -> int:
        number, self.next = self.next, self.next + 1
        self.issued[number] = word, body
        return number

    def _ask(self, number: int, connection: ClientConnection) -> None:
        word, body = self.issued[number]
        head = b"POST /%b/%b/%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        connection.ask(number, head % (word, self.session_id, number, len(body)) + body)

    @property
    def used(self) -> list[ClientConnection]:
        return [each for each in self.connections if not each.given_up]

    @property
    def unanswered(self) -> list[int]:
        return [number for number in self.issued if number not in self.answers]

    @property
    def forgotten(self) -> list[int]:
        """The numbers without an answer that were asked on no connection that is still in use."""
        asked = {number for each in self.used for number in each.asked}
        return [number for number in self.unanswered if number not in asked]

    def _may_issue(self) -> bool:
        return self.next - min(self.unanswered, default=self.next) < REPEATABLE

    @precondition(lambda self: len(self.used) < MOST_CONNECTIONS)
    @rule(is_elsewhere=st.booleans())
    def connect(self, is_elsewhere: bool) -> None:
        self._connect(is_elsewhere)

    @precondition(lambda self: self.used and self._may_issue())
    @rule(
        data=st.data(), word=st.sampled_from((b"send", b"send", b"idle")), size=st.integers(0, 600)
    )
    def issue(self, data: st.DataObject, word: bytes, size: int) -> None:
        body = (b"\xc3%06d" % self.next + bytes(size))[:size] if word == b"send" else b"\0"
        self._ask(self._issue(word, body), data.draw(st.sampled_from(self.used)))

    @precondition(lambda self: self.used and self._may_issue())
    @rule(data=st.data(), count=st.integers(2, 5))
    def issue_in_any_order(self, data: st.DataObject, count: int) -> None:
        """Send several commands behind each other, in any order, on up to two connections."""
        numbers = []
        while len(numbers) < count and self._may_issue():
            numbers.append(self._issue(b"send", b"\xc3%06d" % self.next))
        connections = data.draw(st.permutations(self.used))[:2]
        for place, number in enumerate(data.draw(st.permutations(numbers))):
            self._ask(number, connections[place % len(connections)])
        for connection in connections:
            connection.deliver(WHOLE)
        self._run()

    @precondition(lambda self: self.used and self.forgotten)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.forgotten))
        self._ask(number, data.draw(st.sampled_from(self.used)))

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), size=st.sampled_from((1, 90, 200, WHOLE, WHOLE)))
    def deliver(self, data: st.DataObject, size: int) -> None:
        """What the client has sent on a connection arrives, even after it has given that up."""
        data.draw(st.sampled_from(self.connections)).deliver(size)
        self._run()

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.used)).given_up = True

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), half_closes=st.booleans())
    def lose(self, data: st.DataObject, half_closes: bool) -> None:
        connection = data.draw(st.sampled_from(self.connections))
        if half_closes and connection.wire.reading and not connection.wire.lost:
            connection.wire.end()
        connection.lose()
        self._run()

    @precondition(lambda self: self.used)
    @rule(data=st.data(), room=st.sampled_from((0, 100, 3000, WHOLE)))
    def read_slowly(self, data: st.DataObject, room: int) -> None:
        data.draw(st.sampled_from(self.used)).wire.room = room

    @precondition(lambda self: self.used)
    @rule(data=st.data(), room=st.sampled_from((0, 3000, WHOLE)))
    def read(self, data: st.DataObject, room: int) -> None:
        data.draw(st.sampled_from(self.used)).wire.drain(room)
        self._run()

    # The upstream, the other worker, and the clock

    @precondition(lambda self: self.upstream.reading)
    @rule(size=st.sampled_from((1, 20, 700, 4095, 7000)))
    def say(self, size: int) -> None:
        data = STREAM[self.said : self.said + size]
        self.said += size
        self.upstream.says(data)
        self._run()

    @rule(luck=st.integers(0, 2))
    def drain(self, luck: int) -> None:
        if luck == 0:
            self.upstream.drain()
            self._run()

    @rule(is_forward=st.booleans())
    def move_frames(self, is_forward: bool) -> None:
        (self.there if is_forward else self.back).deliver()
        self._run()

    @rule(seconds=st.sampled_from((0.01, 0.2, 0.6)))
    def later(self, seconds: float) -> None:
        self.owner.passes(seconds)
        self._run()

    def _run(self) -> None:
        for gateway in (self.owner, self.other):
            gateway.turn()
        for connection in self.connections:
            connection.wire.turn()

    # What holds

    @invariant()
    def no_data_is_lost_doubled_or_reordered(self) -> None:
        for connection in self.connections:
            answers = connection.answers()
            if connection.given_up:
                continue
            assert not connection.wire.aborted
            for number, status, body in answers:
                assert status == b"200", self.owner.records.ended
                assert self.answers.setdefault(number, body) == body
        assert self._sent().startswith(b"".join(self.upstream.received))
        assert STREAM.startswith(self._read())

    @invariant()
    def buffers_are_bounded(self) -> None:
        # One read on top, and what a lost answer returns.
        session = self.upstream.tunnel.session
        assert session.buffered_bytes <= 2 * LIMITS.down_buffer_bytes + LIMITS.replay_bytes

    def _sent(self) -> bytes:
        return b"".join(body for word, body in self.issued.values() if word == b"send")

    def _read(self) -> bytes:
        """The data that the client has read, up to the first missing answer."""
        got, number = b"", self.first
        while number in self.answers:
            got += self.answers[number][1:]
            number += 1
        return got

    # In the end

    def teardown(self) -> None:
        if not hasattr(self, "upstream"):
            return
        for _ in range(60):
            self._settle()
            if self._read() == STREAM[: self.said] and not self.unanswered:
                break
            if self.forgotten:
                self._repeat_all()
            elif not self.unanswered:
                self._ask(self._issue(b"idle", b"\0"), self._connect(False))
        assert not self.unanswered
        assert self._read() == STREAM[: self.said]
        assert b"".join(self.upstream.received) == self._sent()

    def _repeat_all(self) -> None:
        for number in self.forgotten:
            self._ask(number, self._connect(False))

    def _settle(self) -> None:
        """Everything arrives, the client reads, and the upstream accepts all data."""
        self.upstream.high_water_bytes = WHOLE
        for _ in range(12):
            self.upstream.drain()
            for connection in self.connections:
                connection.deliver(WHOLE)
                if not (connection.wire.lost or connection.wire.aborted):
                    connection.wire.drain()
            while self.there.deliver() or self.back.deliver():
                self._run()
            self._run()
        self.owner.passes(HOLD_S)
        self._run()
        while self.there.deliver() or self.back.deliver():
            self._run()
        self.no_data_is_lost_doubled_or_reordered()


TestSeveralConnections = SeveralConnections.TestCase
TestSeveralConnections.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
