"""Limits of the embedded origin against hostile publishers and players, in messages and bytes."""

from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkLimits
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.memory import MESSAGE_BYTES, ServerMemory
from gateway.protocols.rtmp.messages import Message, set_chunk_size
from gateway.protocols.rtmp.outbox import AT_ONCE_BYTES, QUEUE_BYTES
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from tests.protocols.rtmp.client import INTER_FRAME, KEYFRAME, Client, video

MIB = 1024 * 1024
LARGEST = KEYFRAME + bytes(8 * MIB - len(KEYFRAME))


class Peer:
    """A client of the origin, and the wire to it: one that takes nothing once ``reads`` is False."""

    def __init__(self, streams: StreamTable) -> None:
        self.reads = True
        self.closed = ""
        self.unsent_bytes = 0
        self.now = 0.0
        self._client = Client()
        self.server = ServerConnection(self, streams, ServerHandshake(0, bytes(RANDOM_BYTES)))
        self.say(self._client.hello())

    def write(self, data: bytes) -> None:
        if not self.reads:
            self.unsent_bytes += len(data)
            if self.unsent_bytes > AT_ONCE_BYTES:
                self.server.hold()
        elif answer := self._client.receive(data):
            self.say(answer)

    def close(self, cause: str) -> None:
        self.closed = cause

    def say(self, data: bytes) -> None:
        """Send bytes; a connection that they end is gone."""
        try:
            self.server.receive(data, self.now)
        except RTMPError as error:
            self.close(str(error))
        if self.closed:
            self.server.end()

    def start(self, role: str) -> Peer:
        """Play or publish the one stream there is, from now on in chunks of 60,000 bytes."""
        for data in (
            self._client.connect(),
            self._client.call("createStream", 2.0),
            self._client.call(role, 0.0, "name", stream_id=1),
            self._client.write(set_chunk_size(60_000)),
        ):
            self.say(data)
        return self

    def send(self, message: Message) -> None:
        self.say(self._client.write(message))

    def takes_nothing(self) -> Peer:
        self.reads = False
        return self

    @property
    def messages(self) -> int:
        return len(self._client.messages)


@pytest.fixture
def streams() -> StreamTable:
    return StreamTable()


def test_a_flood_of_empty_messages_is_ended_before_it_costs_much(streams: StreamTable) -> None:
    players = [Peer(streams).start("play") for _ in range(20)]
    publisher = Peer(streams).start("publish")
    before = sum(player.messages for player in players)
    flood = b"\xc6" * 64 * 1024
    publisher.send(video(b""))
    publisher.say(flood)
    assert "small chunks" in publisher.closed
    limits = ChunkLimits()
    most = limits.chunks_saved + len(flood) // limits.bytes_a_chunk + 10
    assert sum(player.messages for player in players) - before <= 20 * most


def test_a_publisher_of_small_frames_in_real_time_goes_on(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    for frame in range(10_000):
        publisher.now = frame / 100
        publisher.send(video(INTER_FRAME, frame * 10))
    assert not publisher.closed


def test_a_key_frame_is_kept_once_for_all_players_that_do_not_read(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    players = [Peer(streams).start("play").takes_nothing() for _ in range(100)]
    for timestamp in range(3):
        publisher.send(video(LARGEST, timestamp))
    assert not publisher.closed
    for player in players:
        assert player.unsent_bytes <= 2 * AT_ONCE_BYTES
    assert streams.memory.waiting_bytes <= len(LARGEST) + 100 * MESSAGE_BYTES


def test_a_slow_player_gets_a_large_key_frame_whole_and_goes_on(streams: StreamTable) -> None:
    publisher, player = Peer(streams).start("publish"), Peer(streams).start("play")
    before = player.messages
    player.server.hold()
    player.server.release()
    publisher.send(video(LARGEST))
    publisher.send(video(INTER_FRAME, 40))
    assert player.messages - before == 2
    assert streams.memory.waiting_bytes == 0


def test_what_waits_for_all_players_together_has_a_bound() -> None:
    streams = StreamTable(memory=ServerMemory(waiting_bytes=4 * MIB))
    publisher = Peer(streams).start("publish")
    players = [Peer(streams).start("play") for _ in range(10)]
    for timestamp, player in enumerate(players):
        player.server.hold()
        for _ in range(10):
            publisher.send(video(KEYFRAME + bytes(QUEUE_BYTES // 10), timestamp))
        assert streams.memory.waiting_bytes <= 4 * MIB
    for player in players:
        player.server.end()
    assert streams.memory.waiting_bytes == 0


def unfinished(size_bytes: int) -> bytes:
    """A key frame but for its last bytes."""
    writer = ChunkWriter()
    setting = writer.write(set_chunk_size(60_000))
    return setting + writer.write(video(KEYFRAME + bytes(size_bytes)))[:-10]


def test_unfinished_messages_of_all_connections_have_a_bound_and_the_largest_ends() -> None:
    streams = StreamTable(memory=ServerMemory(unfinished_bytes=20 * MIB))
    honest = Peer(streams).start("publish")
    honest.say(unfinished(1 * MIB))
    hostile = [Peer(streams) for _ in range(10)]
    for peer in hostile:
        peer.say(unfinished(7 * MIB))
        assert streams.memory.unfinished_bytes <= 20 * MIB
    assert sum(bool(peer.closed) for peer in hostile) == 8
    assert not honest.closed
    for peer in (honest, *hostile):
        peer.server.end()
    assert streams.memory.unfinished_bytes == 0


def test_a_finished_message_gives_its_room_back(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    publisher.send(video(LARGEST))
    assert streams.memory.unfinished_bytes == 0
