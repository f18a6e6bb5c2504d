"""Limits of the embedded origin against hostile publishers and players, in messages and bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkLimits
from gateway.protocols.rtmp.commands import COMMAND_BYTES_A_CHUNK, Command
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.memory import MESSAGE_BYTES, STALLED_BYTES, ServerMemory
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    set_chunk_size,
    user_control,
)
from gateway.protocols.rtmp.outbox import AT_ONCE_BYTES, QUEUE_BYTES, QUEUE_NOTICE_BYTES
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import (
    COMMAND_CHUNKS,
    PATH_CHARACTERS,
    PING_CHUNKS,
    ServerConnection,
)
from tests.helpers.rtmp_client import INTER_FRAME, KEYFRAME, Client, video

MIB = 1024 * 1024
LARGEST = KEYFRAME + bytes(8 * MIB - len(KEYFRAME))


class Peer:
    """A client of the origin and its transport, which accepts no data while ``reads`` is False."""

    def __init__(self, streams: StreamTable) -> None:
        self.reads = True
        self.closed = ""
        self.unsent = bytearray()
        self.now = 0.0
        self._client = Client()
        self.server = ServerConnection(self, streams, ServerHandshake(0, bytes(RANDOM_BYTES)))
        self.say(self._client.hello())

    def write(self, data: bytes) -> None:
        if not self.reads:
            self.unsent += data
            if len(self.unsent) > AT_ONCE_BYTES:
                self.server.hold()
        elif answer := self._client.receive(data):
            self.say(answer)

    def close(self, cause: str) -> None:
        self.closed = cause

    def say(self, data: bytes) -> None:
        """Send bytes; a connection that the server closes is reported lost."""
        try:
            self.server.receive(data, self.now)
        except RTMPError as error:
            self.close(str(error))
        if self.closed:
            self.server.end()

    def start(self, role: str, name: str = "name") -> Peer:
        """Play or publish a stream, with chunks of 60,000 bytes."""
        for data in (
            self._client.connect(),
            self._client.call("createStream", 2.0),
            self._client.call(role, 0.0, name, stream_id=1),
            self._client.write(set_chunk_size(60_000)),
        ):
            self.say(data)
        return self

    def write_message(self, message: Message) -> bytes:
        return self._client.write(message)

    def send(self, message: Message) -> None:
        self.say(self._client.write(message))

    def call(self, name: str, *arguments: str) -> None:
        self.say(self._client.call(name, 0.0, *arguments, stream_id=1))

    def takes_nothing(self) -> Peer:
        self.reads = False
        return self

    def takes_some(self) -> None:
        """Read the data written so far."""
        data = bytes(self.unsent)
        self.unsent.clear()
        self._client.receive(data)
        self.server.release()

    @property
    def messages(self) -> int:
        return len(self._client.messages)


@pytest.fixture
def streams() -> StreamTable:
    return StreamTable()


def test_a_connection_that_floods_empty_messages_is_closed_early(streams: StreamTable) -> None:
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


def test_a_publisher_of_small_frames_in_real_time_is_not_closed(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    for frame in range(10_000):
        publisher.now = frame / 100
        publisher.send(video(INTER_FRAME, frame * 10))
    assert not publisher.closed


def test_a_key_frame_is_stored_once_for_all_players_that_do_not_read(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    players = [Peer(streams).start("play").takes_nothing() for _ in range(100)]
    for timestamp in range(3):
        publisher.send(video(LARGEST, timestamp))
    assert not publisher.closed
    for player in players:
        assert len(player.unsent) <= 2 * AT_ONCE_BYTES
    assert streams.memory.waiting_bytes <= len(LARGEST) + 100 * (MESSAGE_BYTES + STALLED_BYTES)


def test_a_slow_player_gets_a_large_key_frame_whole_and_continues(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    player = Peer(streams).start("play").takes_nothing()
    before = player.messages
    publisher.send(video(LARGEST))
    # No room for it behind the key frame, nor for any before the next one.
    publisher.send(video(INTER_FRAME, 40))
    times = 0
    while player.unsent:
        times += 1
        player.takes_some()
    assert times > len(LARGEST) // (2 * AT_ONCE_BYTES)
    assert player.messages - before == 1
    player.reads = True
    for timestamp, frame in enumerate((INTER_FRAME, KEYFRAME, INTER_FRAME), 80):
        publisher.send(video(frame, timestamp))
    assert player.messages - before == 3
    assert streams.memory.waiting_bytes == 0


def test_the_queues_of_all_players_together_are_limited() -> None:
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
    """A key frame without its last bytes."""
    writer = ChunkWriter()
    setting = writer.write(set_chunk_size(60_000))
    return setting + writer.write(video(KEYFRAME + bytes(size_bytes)))[:-10]


def test_unfinished_messages_of_all_connections_are_limited_and_the_largest_is_closed() -> None:
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


def test_a_finished_message_no_longer_counts_against_the_limit(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    publisher.send(video(LARGEST))
    assert streams.memory.unfinished_bytes == 0


def count_calls(run: Callable[[], object]) -> int:
    """The work of ``run``, as the number of functions that it calls, built-in ones included."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def send_until_closed(peer: Peer, message: Message, count: int) -> int:
    """Send ``message`` up to ``count`` times, without time passing. Returns how often it was sent."""
    for sent in range(count):
        peer.send(message)
        if peer.closed:
            return sent
    return count


def most_messages(size_bytes: int, chunks: int) -> int:
    """The number of messages of a size and cost in chunks that are accepted without time passing."""
    limits = ChunkLimits()
    return int(limits.chunks_saved / (chunks - size_bytes / limits.bytes_a_chunk)) + 1


def command(payload: bytes) -> Message:
    return Message(MessageType.COMMAND, payload)


NO_TRANSACTION = b"\x02\x00\x01x\x00" + bytes(8)


@pytest.mark.parametrize("values", [0, 100, 4000])
def test_the_cost_of_commands_depends_on_their_number_and_their_values(
    streams: StreamTable, values: int
) -> None:
    peer = Peer(streams).start("play")
    payload = NO_TRANSACTION + b"\x05" * values
    cost = 1 + COMMAND_CHUNKS + len(payload) // COMMAND_BYTES_A_CHUNK
    sent = send_until_closed(peer, command(payload), 1000)
    assert "small chunks or commands" in peer.closed
    assert sent <= most_messages(len(payload) + 12, cost)


def test_the_cost_of_pings_depends_on_their_number(streams: StreamTable) -> None:
    peer = Peer(streams).start("play")
    sent = send_until_closed(peer, user_control(UserControl.PING_REQUEST, 1), 3000)
    assert "small chunks or commands" in peer.closed
    assert sent <= most_messages(18, 1 + PING_CHUNKS)


def test_a_client_that_starts_with_a_hundred_commands_is_not_closed(streams: StreamTable) -> None:
    peer = Peer(streams).start("play")
    send_until_closed(peer, Command("_checkbw", 1.0).message(), 100)
    assert not peer.closed


def test_a_publisher_that_starts_and_stops_without_end_is_closed(streams: StreamTable) -> None:
    players = [Peer(streams).start("play") for _ in range(20)]
    publisher = Peer(streams).start("publish")
    before = sum(player.messages for player in players)
    for _ in range(1000):
        publisher.call("closeStream")
        publisher.call("publish", "name")
        if publisher.closed:
            break
    assert "small chunks or commands" in publisher.closed
    # The shortest of these commands has 24 bytes, and two of them make five notices.
    most = 2.5 * most_messages(24, 1 + COMMAND_CHUNKS + 24 // COMMAND_BYTES_A_CHUNK)
    assert sum(player.messages for player in players) - before <= 20 * (most + 5)


def test_a_publisher_of_small_frames_in_tiny_segments_in_real_time_is_not_closed(
    streams: StreamTable,
) -> None:
    publisher = Peer(streams).start("publish")
    for frame in range(5_000):
        sent = publisher.write_message(video(INTER_FRAME, frame * 10))
        for at, byte in enumerate(sent):
            publisher.now = (frame + at / len(sent)) / 100
            publisher.say(bytes([byte]))
    assert not publisher.closed


def header(track: int) -> Message:
    return video(b"\x96\x00av01" + bytes([track]))


def test_the_work_for_a_codec_header_does_not_grow_with_the_number_of_stored_headers(
    streams: StreamTable,
) -> None:
    publisher = Peer(streams).start("publish")
    publisher.send(header(0))
    with_one = count_calls(lambda: publisher.send(header(0)))
    for track in range(60):
        publisher.send(header(track))
    assert count_calls(lambda: publisher.send(header(0))) <= with_one + 3


def test_replaced_headers_do_not_add_to_the_stored_size(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    large = b"\x17\x00" + bytes(200_000)
    for timestamp in range(5):
        publisher.send(video(large, timestamp))
    assert not publisher.closed
    publisher.send(video(b"\x96\x00av01\x00" + bytes(100_000)))
    assert "more codec headers" in publisher.closed


@pytest.mark.parametrize("full", ["own queue", "all queues"])
def test_the_work_for_a_full_player_does_not_grow_with_the_number_of_stored_headers(
    full: str,
) -> None:
    waiting_bytes = MIB if full == "all queues" else 128 * MIB
    streams = StreamTable(memory=ServerMemory(waiting_bytes=waiting_bytes))
    publisher, player = Peer(streams).start("publish"), Peer(streams).start("play")
    publisher.send(video(KEYFRAME))
    player.server.hold()
    for _ in range(60):
        publisher.send(video(INTER_FRAME + bytes(50_000)))
    publisher.send(header(0))
    large = video(KEYFRAME + bytes(50_000))
    publisher.send(large)
    with_one = count_calls(lambda: publisher.send(large))
    for track in range(60):
        publisher.send(header(track))
    assert count_calls(lambda: publisher.send(large)) <= with_one + 10


def test_notices_are_created_and_stored_once_for_all_players(streams: StreamTable) -> None:
    def work(players: int) -> int:
        name = f"stream {players}"
        held = [Peer(streams).start("play", name) for _ in range(players)]
        for each in held:
            each.server.hold()
        publisher = Peer(streams).start("publish", name)
        calls = count_calls(lambda: publisher.call("closeStream"))
        waiting_bytes = streams.memory.waiting_bytes - players * (STALLED_BYTES + 5 * MESSAGE_BYTES)
        assert waiting_bytes < 1000
        for each in (publisher, *held):
            each.server.end()
        assert streams.memory.waiting_bytes == 0
        return calls

    assert work(100) - work(50) <= 50 * 60


LONG_NAME = "\N{GRINNING FACE}" * 1000


def toggle(publisher: Peer) -> None:
    publisher.now += 10.0
    publisher.call("closeStream")
    publisher.call("publish", LONG_NAME)


def test_unread_notices_of_a_player_are_limited_in_bytes(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish", LONG_NAME)
    player = Peer(streams).start("play", LONG_NAME)
    player.server.hold()
    for _ in range(40):
        toggle(publisher)
        queued_bytes = streams.memory.waiting_bytes - STALLED_BYTES
        assert queued_bytes <= QUEUE_NOTICE_BYTES + 256 * MESSAGE_BYTES
        if player.closed:
            break
    assert "messages other than media" in player.closed
    assert not publisher.closed


def test_notices_count_against_the_limit_on_the_queues_of_all_players() -> None:
    streams = StreamTable(memory=ServerMemory(waiting_bytes=2 * STALLED_BYTES))
    publisher = Peer(streams).start("publish", LONG_NAME)
    player = Peer(streams).start("play", LONG_NAME)
    player.server.hold()
    streams.memory.wait(bytes(STALLED_BYTES - 8192))
    toggle(publisher)
    assert "messages other than media" in player.closed
    assert streams.memory.waiting_bytes <= 2 * STALLED_BYTES


def test_full_transports_are_limited_and_the_longest_full_transport_is_closed() -> None:
    streams = StreamTable(memory=ServerMemory(waiting_bytes=4 * STALLED_BYTES))
    hostile = [Peer(streams).start("play") for _ in range(10)]
    honest = Peer(streams).start("play")
    for peer in (*hostile, honest):
        peer.server.hold()
        assert streams.memory.waiting_bytes <= 4 * STALLED_BYTES
    assert [bool(peer.closed) for peer in hostile] == [True] * 7 + [False] * 3
    assert "slow longest" in hostile[0].closed
    assert not honest.closed
    for peer in (*hostile, honest):
        peer.server.release()
        peer.server.end()
    assert streams.memory.waiting_bytes == 0


def test_a_transport_that_has_drained_is_not_the_longest_full_transport() -> None:
    streams = StreamTable(memory=ServerMemory(waiting_bytes=2 * STALLED_BYTES))
    first, second, third = (Peer(streams).start("play") for _ in range(3))
    first.server.hold()
    second.server.hold()
    first.server.release()
    first.server.hold()
    third.server.hold()
    assert [bool(peer.closed) for peer in (first, second, third)] == [False, True, False]


def test_no_data_is_written_to_a_closed_player(streams: StreamTable) -> None:
    publisher = Peer(streams).start("publish")
    player = Peer(streams).start("play").takes_nothing()
    player.server.evict("")
    publisher.send(video(LARGEST))
    publisher.send(video(KEYFRAME))
    assert not player.unsent
    assert streams.memory.waiting_bytes == 0


def test_a_long_application_name_is_not_stored(streams: StreamTable) -> None:
    peer = Peer(streams)
    peer.send(Command("connect", 1.0, {"app": "x" * (PATH_CHARACTERS + 1)}).message())
    assert "stream path" in peer.closed
    token = Peer(streams)
    token.send(Command("connect", 1.0, {"app": "live?" + "x" * 8000}).message())
    assert not token.closed
