"""Mirrors: their connections, tries, states and figures, against the embedded origin's protocol."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gateway.errors import UpstreamUnavailable
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.mirror_states import (
    SHOWN_STREAMS,
    MirroredStream,
    MirrorState,
    merged_mirrors,
)
from gateway.protocols.rtmp.outbox import QUEUE_BYTES
from gateway.protocols.rtmp.publisher import Destination
from gateway.protocols.rtmp.relay import LiveStream, StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from gateway.upstreams.mirrors import Mirrors, MirrorSettings
from tests.helpers.logged import logged
from tests.helpers.rtmp_client import video

_KEYFRAME, _INTER_FRAME = b"\x17\x01\0\0\0key", b"\x27\x01\0\0\0" + bytes(60_000)


class Transport:
    """A connection to an RTMP server in memory. ``is_full``: the server takes nothing."""

    def __init__(self, protocol: Any, server: Server) -> None:
        self._protocol = protocol
        self._producer: Any = None
        self.is_full = self.is_lost = False
        self.sent_bytes = 0
        handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
        self._server = ServerConnection(self, server.streams, handshake)  # type: ignore[arg-type]
        self._answers: list[bytes] = []
        self._pending: list[bytes] = []

    # The protocol calls

    def write(self, data: bytes) -> None:
        (self._answers if self._is_serving else self._pending).append(data)
        self.sent_bytes += 0 if self._is_serving else len(data)
        if self.is_full and not self._is_serving:
            self._producer.pauseProducing()

    _is_serving = False

    def exchange(self) -> None:
        """Both sides process what was sent."""
        while self._pending or self._answers:
            pending, self._pending = self._pending, []
            self._is_serving = True
            for data in pending:
                self._server.receive(data, 0.0)
            self._is_serving = False
            answers, self._answers = self._answers, []
            for data in answers:
                self._protocol.dataReceived(data)

    def registerProducer(self, producer: Any, _: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        pass

    def abortConnection(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._server.end()
            self._protocol.connectionLost(Failure(ConnectionDone()))

    loseConnection = abortConnection

    def close(self, cause: str) -> None:
        """Part of the server's wire."""

    def drain(self) -> None:
        """The server has read all."""
        self.is_full = False
        self._producer.resumeProducing()


class Server:
    """The server of a mirror. ``is_down``: it accepts no connection."""

    def __init__(self) -> None:
        self.streams = StreamTable()
        self.connections: list[Transport] = []
        self.is_down = False

    async def connect(self, protocol: Any, name: str) -> str:
        assert name == "platform"
        if self.is_down:
            raise UpstreamUnavailable("no upstream server accepted the connection")
        transport = Transport(protocol, self)
        self.connections.append(transport)
        protocol.makeConnection(transport)
        return "media:1935"


class Mirrored:
    """One mirror, and streams that are published."""

    def __init__(self, key: str = "") -> None:
        self.clock = Clock()
        self.server = Server()

        def destination(application: str, stream: str) -> Destination:
            return Destination(f"rtmp://media/{application}", application, key or stream)

        settings = MirrorSettings("platform", "*", "*", destination)
        self.mirrors = Mirrors(self.clock, (settings,), self.server.connect)

    def publish(self, name: str = "cam") -> LiveStream:
        live = LiveStream(f"live/{name}")
        self.mirrors._begin(live, "live", name)
        self.exchange()
        return live

    def end(self, live: LiveStream) -> None:
        self.mirrors._end(live)
        self.exchange()

    def exchange(self) -> None:
        for connection in self.server.connections:
            connection.exchange()

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.mirrors.sweep(self.clock.seconds())
            self.exchange()

    @property
    def state(self) -> MirrorState:
        (state,) = self.mirrors.states()
        return state

    @property
    def stream(self) -> MirroredStream:
        (stream,) = self.state.streams
        return stream


def test_a_stream_is_connecting_until_the_server_accepts_it_and_ends_with_its_publish() -> None:
    mirrored = Mirrored()
    live = LiveStream("live/cam")
    mirrored.mirrors._begin(live, "live", "cam")
    assert mirrored.stream == MirroredStream(
        "live/cam", "connecting", 0.0, "media:1935", 0, 0, 0, "", 0.0
    )
    assert (mirrored.state.publishing, mirrored.state.waiting) == (0, 1)
    mirrored.exchange()
    mirrored.pass_time(3)
    assert (mirrored.stream.state, mirrored.stream.state_s) == ("publishing", 3.0)
    assert (mirrored.state.publishing, mirrored.state.waiting) == (1, 0)
    mirrored.end(live)
    assert mirrored.stream.state == "ended"
    assert (mirrored.state.publishing, mirrored.state.waiting) == (0, 0)


def test_a_mirror_that_is_down_is_tried_again_after_pauses_that_grow() -> None:
    mirrored = Mirrored()
    mirrored.server.is_down = True
    live = mirrored.publish()
    assert mirrored.stream.state == "waiting"
    assert mirrored.stream.next_try_s == 1.0
    assert mirrored.stream.last_error == "no upstream server accepted the connection"
    pauses = []
    for _ in range(120):
        failures = mirrored.stream.failures
        mirrored.pass_time(1)
        if mirrored.stream.failures > failures:
            pauses.append(mirrored.stream.next_try_s)
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    mirrored.server.is_down = False
    mirrored.pass_time(30)
    assert (mirrored.stream.state, mirrored.stream.failures) == ("publishing", 8)
    assert mirrored.state.failures == 8
    mirrored.end(live)
    assert mirrored.stream.state == "ended"


def test_a_server_that_does_not_read_has_a_limited_queue_and_is_left_after_a_time() -> None:
    mirrored = Mirrored()
    live = mirrored.publish()
    (connection,) = mirrored.server.connections
    live.relay(video(_KEYFRAME, 0))
    connection.is_full = True
    for number in range(100):
        live.relay(video(_INTER_FRAME, 40 * number))
    queued, left_out = mirrored.stream.queued_bytes, mirrored.stream.left_out
    assert QUEUE_BYTES - len(_INTER_FRAME) - 1000 < queued <= QUEUE_BYTES
    assert left_out == 100 - 1 - queued // len(_INTER_FRAME)
    assert mirrored.state.queued_bytes == queued
    with logged() as lines:
        mirrored.pass_time(14)
        assert not connection.is_lost
        mirrored.pass_time(1)
    assert connection.is_lost
    assert lines == [
        "warn: mirror platform: live/cam is not published: the server does not read; next try in 1 s"
    ]
    assert (mirrored.stream.state, mirrored.stream.queued_bytes) == ("waiting", 0)
    assert mirrored.mirrors.memory.waiting_bytes == 0
    mirrored.pass_time(1)
    assert mirrored.stream.state == "publishing"
    # What was left out stays counted.
    assert mirrored.stream.left_out == mirrored.state.left_out == left_out


def test_a_server_that_reads_slowly_is_kept() -> None:
    mirrored = Mirrored()
    live = mirrored.publish()
    (connection,) = mirrored.server.connections
    for second in range(60):
        connection.is_full = True
        live.relay(video(_KEYFRAME, 1000 * second))
        mirrored.pass_time(10)
        connection.drain()
    assert not connection.is_lost
    assert mirrored.stream.left_out == 0


@pytest.mark.parametrize("key", ["secret-key", "secret-key?backup=1"])
def test_the_stream_key_is_in_no_state_and_no_line(key: str) -> None:
    mirrored = Mirrored(key)
    mirrored.server.streams.stream("live/secret-key").publish(object())
    with logged() as lines:
        mirrored.publish()
    assert mirrored.stream.state == "waiting"
    assert "secret-key" not in repr(mirrored.state)
    assert lines
    assert "secret-key" not in "".join(lines)


def test_a_name_that_is_the_same_at_the_mirror_is_shown() -> None:
    mirrored = Mirrored()
    mirrored.server.streams.stream("live/hall/cam").publish(object())
    mirrored.publish("hall/cam")
    assert mirrored.stream.state == "waiting"
    assert "(its stream key)" not in mirrored.stream.last_error


def test_the_last_streams_that_ended_are_shown_and_no_more() -> None:
    mirrored = Mirrored()
    for number in range(50):
        mirrored.end(mirrored.publish(f"cam{number}"))
    assert [stream.stream for stream in mirrored.state.streams] == [
        f"live/cam{number}" for number in range(30, 50)
    ]


def test_the_mirrors_of_several_workers_are_shown_as_one() -> None:
    one, other = Mirrored(), Mirrored()
    one.publish("a")
    other.publish("b")
    other.server.is_down = True
    other.publish("c")
    (merged,) = merged_mirrors([one.mirrors.states(), other.mirrors.states()])
    assert (merged.publishing, merged.waiting, merged.failures) == (2, 1, 1)
    assert [stream.stream for stream in merged.streams] == ["live/a", "live/b", "live/c"]
    many = [MirrorState("m", streams=[merged.streams[0]] * SHOWN_STREAMS)] * 3
    assert len(merged_mirrors([many])[0].streams) == SHOWN_STREAMS


@pytest.mark.parametrize("ends", [True, False])
def test_a_stream_that_ends_while_its_mirror_is_down_is_not_tried_again(ends: bool) -> None:
    mirrored = Mirrored()
    mirrored.server.is_down = True
    live = mirrored.publish()
    if ends:
        mirrored.end(live)
    mirrored.server.is_down = False
    mirrored.pass_time(60)
    assert len(mirrored.server.connections) == (0 if ends else 1)
