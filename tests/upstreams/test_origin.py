"""The embedded origin's transports, back-pressure and deadlines, with Twisted's in-memory reactor."""

from __future__ import annotations

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from gateway.protocols.rtmp.messages import UserControl, user_control
from gateway.protocols.rtmp.outbox import QUEUE_BYTES
from gateway.upstreams.origin import JOIN_WRITES, OriginFactory, OriginLimits, listen_origin
from tests.helpers.logged import logged
from tests.helpers.rtmp_client import (
    AUDIO_HEADER,
    INTER_FRAME,
    KEYFRAME,
    METADATA,
    SET_METADATA,
    SOUND,
    VIDEO_HEADER,
    Client,
    audio,
    data,
    video,
)


class Transport(StringTransport):
    """StringTransport with ``setTcpNoDelay``."""

    no_delay = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled


class Peer:
    """A client of the origin, over an in-memory transport."""

    def __init__(self, factory: OriginFactory) -> None:
        self.client = Client()
        self.transport = Transport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnected)

    def send(self, *sent: bytes) -> None:
        for each in sent:
            self.protocol.dataReceived(each)
            self.read()

    def read(self) -> None:
        while received := self.transport.value():
            self.transport.clear()
            answer = self.client.receive(received)
            if answer:
                self.protocol.dataReceived(answer)

    def start(self, role: str) -> Peer:
        self.send(self.client.hello())
        self.send(self.client.connect(), self.client.call("createStream", 2.0))
        self.send(self.client.call(role, 0.0, "name", stream_id=1))
        return self

    def media(self) -> list[tuple[bytes, int]]:
        self.read()
        return self.client.take_media()

    def said(self) -> list[str]:
        self.read()
        return self.client.take_said()

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


@pytest.fixture
def factory(reactor: MemoryReactorClock) -> OriginFactory:
    factory = OriginFactory(reactor, OriginLimits(connections=3))
    factory.doStart()
    return factory


def test_a_late_player_gets_metadata_headers_and_then_a_keyframe(factory: OriginFactory) -> None:
    publisher = Peer(factory).start("publish")
    sent = [data(SET_METADATA), video(VIDEO_HEADER), audio(AUDIO_HEADER), video(KEYFRAME)]
    publisher.send(*map(publisher.client.write, sent))
    player = Peer(factory).start("play")
    sent = [video(INTER_FRAME, 40), video(KEYFRAME, 80), audio(SOUND, 81)]
    publisher.send(*map(publisher.client.write, sent))
    assert player.media() == [
        (METADATA, 0),
        (VIDEO_HEADER, 80),
        (AUDIO_HEADER, 80),
        (KEYFRAME, 80),
        (SOUND, 81),
    ]


def test_a_second_publisher_is_refused_with_bad_name(factory: OriginFactory) -> None:
    first = Peer(factory).start("publish")
    second = Peer(factory).start("publish")
    assert first.said()[-1] == "NetStream.Publish.Start"
    assert second.said()[-1] == "NetStream.Publish.BadName"


def test_players_are_notified_when_the_publisher_is_lost(factory: OriginFactory) -> None:
    player, publisher = Peer(factory).start("play"), Peer(factory).start("publish")
    player.said()
    publisher.lose()
    player.read()
    assert user_control(UserControl.STREAM_EOF, 1) in player.client.messages
    assert player.said() == ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop"]


def test_a_full_transport_stops_reading_and_the_queue_is_limited(factory: OriginFactory) -> None:
    player, publisher = Peer(factory).start("play"), Peer(factory).start("publish")
    player.media()
    assert player.transport.producer is player.protocol
    player.protocol.pauseProducing()
    assert player.transport.producerState == "paused"
    frames = [video(KEYFRAME + bytes(100_000), timestamp) for timestamp in range(50)]
    publisher.send(*map(publisher.client.write, frames))
    assert player.transport.value() == b""
    player.protocol.resumeProducing()
    assert player.transport.producerState == "producing"
    assert 0 < sum(len(payload) for payload, _ in player.media()) <= QUEUE_BYTES
    publisher.send(*map(publisher.client.write, [video(INTER_FRAME, 50), video(KEYFRAME, 51)]))
    assert player.media() == [(KEYFRAME, 51)]


def test_small_writes_are_not_delayed(factory: OriginFactory) -> None:
    assert Peer(factory).transport.no_delay


@pytest.mark.parametrize("sent", [b"", b"\x03", b"\x03" + bytes(1536)])
def test_a_client_that_does_not_connect_in_time_is_closed(
    factory: OriginFactory, reactor: MemoryReactorClock, sent: bytes
) -> None:
    peer = Peer(factory)
    for _ in range(9):
        # A byte a second does not extend the deadline.
        peer.protocol.dataReceived(sent[:1])
        sent = sent[1:]
        reactor.advance(1.0)
    peer.protocol.dataReceived(sent)
    assert not peer.closed
    reactor.advance(1.0)
    assert peer.closed


def test_a_client_that_connected_has_no_deadline(
    factory: OriginFactory, reactor: MemoryReactorClock
) -> None:
    peer = Peer(factory).start("play")
    reactor.pump([1.0] * 100)
    assert not peer.closed


def test_a_client_that_accepts_no_data_is_closed(
    factory: OriginFactory, reactor: MemoryReactorClock
) -> None:
    peer = Peer(factory).start("play")
    peer.protocol.pauseProducing()
    reactor.pump([1.0] * 14)
    assert not peer.closed
    with logged() as lines:
        reactor.advance(1.0)
    assert peer.closed
    assert "reads too slowly" in lines[0]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x03" + bytes(3072) + b"\xff"])
def test_malformed_input_closes_its_own_connection_only(
    factory: OriginFactory, garbage: bytes
) -> None:
    player, bad = Peer(factory).start("play"), Peer(factory)
    bad.protocol.dataReceived(garbage[:-1])
    bad.protocol.dataReceived(garbage[-1:])
    assert bad.closed
    bad.lose()
    assert not player.closed
    assert len(factory.connections) == 1


def test_a_connection_over_the_limit_is_refused_until_one_is_lost(factory: OriginFactory) -> None:
    peers = [Peer(factory) for _ in range(3)]
    assert factory.buildProtocol(None) is None
    peers[0].lose()
    assert factory.buildProtocol(None) is not None


def test_closing_the_port_closes_every_connection(
    factory: OriginFactory, reactor: MemoryReactorClock
) -> None:
    peer = Peer(factory).start("play")
    factory.doStop()
    assert peer.closed
    assert reactor.getDelayedCalls() == []


def test_the_origin_listens_on_loopback_by_default(reactor: MemoryReactorClock) -> None:
    listen_origin(reactor)
    ((port, factory, _, interface),) = reactor.tcpServers
    assert (port, interface) == (0, "127.0.0.1")
    assert isinstance(factory, OriginFactory)


class StalledDescriptor(FileDescriptor):
    """Twisted's write buffer above a socket that accepts no data."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


def test_unread_small_messages_are_joined_into_few_objects(
    factory: OriginFactory, reactor: MemoryReactorClock
) -> None:
    player, publisher = Peer(factory).start("play"), Peer(factory).start("publish")
    stalled = StalledDescriptor(reactor)
    stalled.connected = 1
    player.protocol.transport = stalled
    sent_bytes = 0
    for timestamp in range(10 * JOIN_WRITES):
        reactor.advance(0.01)
        publisher.send(publisher.client.write(video(b"x", timestamp)))
        assert len(stalled._tempDataBuffer) <= JOIN_WRITES + 1
        assert stalled._tempDataLen >= sent_bytes
        sent_bytes = stalled._tempDataLen
    assert sent_bytes == sum(map(len, stalled._tempDataBuffer))
    assert player.client.receive(b"".join(stalled._tempDataBuffer)) == b""
    received = [timestamp for payload, timestamp in player.client.take_media() if payload == b"x"]
    assert received == list(range(10 * JOIN_WRITES))
