"""The loopback's transports: answers in a later iteration, pauses, and their end."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from gateway.protocols.port_test.loopback import SESSION_S
from gateway.protocols.port_test.measuring import DOWN, MEASURE, MEASURED_S, UP
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.upstreams.loopback import NAME, Loopback
from tests.helpers.logged import logged

HELLO = b"\3" + bytes(BLOCK_BYTES)


@define(slots=False)
class Tunnel:
    """The upstream side of a session."""

    transport: Any = None
    received: bytes = b""
    full: bool = False
    lost: list[type[Exception]] = field(factory=list)

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        assert not self.lost
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        assert isinstance(reason.value, Exception)
        self.lost.append(type(reason.value))

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False


class Room:
    """A loopback with one session."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: list[Callable[[], None]] = []
        self.asked: list[str] = []
        self.loopback = Loopback(lambda: self.now, self.soon.append, self._may_measure)
        self.tunnel = Tunnel()
        connecting = Deferred.fromCoroutine(
            self.loopback.connect(self.tunnel, SimpleNamespace(address="192.0.2.1"))
        )
        names: list[str] = []
        connecting.addCallback(names.append)
        assert names == [NAME]
        self.writer = ChunkWriter()

    def _may_measure(self, address: str) -> bool:
        self.asked.append(address)
        return True

    def turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def writes(self, data: bytes) -> None:
        self.tunnel.transport.write(data)

    def shakes(self) -> None:
        self.writes(HELLO + bytes(BLOCK_BYTES))
        self.turn()
        self.tunnel.received = b""

    def measures(self, direction: str) -> None:
        self.writes(self.writer.write(Command(MEASURE, 1.0, None, (direction,)).message()))
        self.turn()
        self.tunnel.received = b""

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.loopback.sweep(self.now)
        self.turn()


def test_answers_are_delivered_after_the_write_has_returned() -> None:
    room = Room()
    room.writes(HELLO)
    assert room.tunnel.received == b""
    room.turn()
    assert len(room.tunnel.received) == HANDSHAKE_BYTES
    assert (room.loopback.bytes_up, room.loopback.bytes_down) == (len(HELLO), HANDSHAKE_BYTES)


def test_nothing_is_delivered_while_the_session_does_not_read() -> None:
    room = Room()
    room.tunnel.transport.pauseProducing()
    room.writes(HELLO)
    room.turn()
    assert room.tunnel.received == b""
    room.tunnel.transport.resumeProducing()
    room.turn()
    assert len(room.tunnel.received) == HANDSHAKE_BYTES


def test_a_measurement_down_continues_with_each_sweep_and_pauses() -> None:
    room = Room()
    room.shakes()
    room.measures(DOWN)
    assert room.asked == ["192.0.2.1"]
    room.passes(0.05)
    first = len(room.tunnel.received)
    assert first > 0
    room.tunnel.transport.pauseProducing()
    room.passes(0.05)
    assert len(room.tunnel.received) == first
    room.tunnel.transport.resumeProducing()
    room.passes(0.05)
    assert len(room.tunnel.received) > first


def test_a_measurement_ends_in_time_even_if_the_session_does_not_read() -> None:
    room = Room()
    room.shakes()
    room.measures(DOWN)
    room.tunnel.transport.pauseProducing()
    room.passes(MEASURED_S - 0.1)
    assert [each.is_measuring for each in room.loopback.transports] == [True]
    room.passes(0.1)
    assert [each.is_measuring for each in room.loopback.transports] == [False]


def test_a_client_that_measures_too_fast_has_to_wait() -> None:
    room = Room()
    room.shakes()
    room.measures(UP)
    block = room.writer.write(Message(MessageType.AUDIO, bytes(60_000)))
    for _ in range(3):
        room.writes(block)
    assert room.tunnel.full
    room.passes(0.05)
    assert not room.tunnel.full


def test_a_client_that_speaks_no_rtmp_is_cut_off() -> None:
    room = Room()
    room.writes(b"GET / HTTP/1.1\r\n")
    room.turn()
    assert room.tunnel.lost == [ConnectionAborted]
    assert not room.loopback.transports


def test_a_session_ends_once_when_it_is_closed() -> None:
    room = Room()
    room.writes(HELLO)
    room.tunnel.transport.loseWriteConnection()
    room.tunnel.transport.abortConnection()
    room.turn()
    assert room.tunnel.lost == [ConnectionDone]
    assert not room.loopback.transports
    room.writes(HELLO)
    room.turn()


def test_no_session_lasts_longer_than_its_time() -> None:
    room = Room()
    room.shakes()
    room.passes(SESSION_S - 0.1)
    assert not room.tunnel.lost
    room.passes(0.2)
    assert room.tunnel.lost == [ConnectionDone]


def test_a_session_that_fails_ends_and_does_not_keep_others_from_what_is_due() -> None:
    room, others = Room(), [Tunnel(), Tunnel()]
    for other in others:
        Deferred.fromCoroutine(
            room.loopback.connect(other, SimpleNamespace(address="192.0.2.2"))
        ).addCallback(str)

    def fail(data: bytes) -> None:
        raise RuntimeError("a fault")

    room.shakes()
    room.measures(DOWN)
    room.tunnel.dataReceived = fail  # type: ignore[method-assign]
    with logged() as lines:
        room.passes(0.05)
        room.passes(SESSION_S)
    assert len(lines) == 1
    assert room.tunnel.lost == [ConnectionAborted]
    assert [other.lost for other in others] == [[ConnectionDone]] * 2
    assert not room.loopback.transports
