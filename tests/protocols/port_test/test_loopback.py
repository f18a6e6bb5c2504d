"""The loopback's side of RTMP: handshake, pings, measurements and limits."""

from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.port_test.loopback import LoopbackServer
from gateway.protocols.port_test.measuring import (
    BLOCK_BYTES,
    BYTES_PER_S,
    DOWN,
    MEASURE,
    MEASURED_BYTES,
    MEASURED_S,
    UP,
)
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake, ServerHandshake
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    read_ping_response,
    set_chunk_size,
    user_control,
)


class Client:
    """A client whose handshake is complete. ``sends`` returns the loopback's messages."""

    def __init__(self, *, permits: bool = True) -> None:
        self.asked = 0
        self.permits = permits
        handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
        self.server = LoopbackServer(handshake, bytes(BLOCK_BYTES), self._may_measure)
        own = ClientHandshake(0, bytes(RANDOM_BYTES))
        answer = self.server.receive(own.hello, 0.0)
        self.server.receive(own.receive(answer), 0.0)
        assert own.done
        self.writer = ChunkWriter()
        self.reader = ChunkReader()

    def _may_measure(self) -> bool:
        self.asked += 1
        return self.permits

    def sends(self, message: Message, now: float = 0.0) -> list[Message]:
        return self.reader.feed(self.server.receive(self.writer.write(message), now))

    def measures(self, direction: str, now: float = 0.0) -> Command:
        answer = self.sends(Command(MEASURE, 2.0, None, (direction,)).message(), now)[0]
        command = read_command(answer)
        assert command is not None
        return command


def test_pings_are_answered_with_their_time() -> None:
    (answer,) = Client().sends(user_control(UserControl.PING_REQUEST, 77))
    assert read_ping_response(answer) == 77


def test_other_commands_have_no_answer() -> None:
    client = Client()
    assert client.sends(Command("connect", 1.0, {"app": "live"}).message()) == []
    assert client.sends(Command("publish", 0.0, None, ("cam",)).message()) == []


def test_the_handshake_may_arrive_byte_by_byte() -> None:
    server = LoopbackServer(
        ServerHandshake(0, bytes(RANDOM_BYTES)), bytes(BLOCK_BYTES), lambda: False
    )
    own = ClientHandshake(0, bytes(range(256)) * 5 + bytes(RANDOM_BYTES - 1280))
    answer = b"".join(server.receive(bytes([octet]), 0.0) for octet in own.hello)
    assert answer[1 + 1536 :] == own.hello[1:]


def test_a_measurement_down_keeps_to_its_rate_and_its_duration() -> None:
    client = Client()
    granted = client.measures(DOWN, 10.0)
    assert granted.name == "_result"
    assert granted.argument(0) == {
        "bytes": float(MEASURED_BYTES),
        "bytes_per_s": float(BYTES_PER_S),
    }
    sent = 0
    now = 10.0
    while client.server.is_measuring:
        data = client.server.due(now)
        client.reader.feed(data)
        sent += len(data)
        assert sent <= (now - 10.0) * BYTES_PER_S + 9 * BLOCK_BYTES
        now += 0.05
    assert now == pytest.approx(10.0 + MEASURED_S, abs=0.11)
    assert 0.95 * MEASURED_BYTES < sent < 1.01 * MEASURED_BYTES
    assert client.server.due(now) == b""


def test_a_client_that_has_not_read_for_a_while_gets_no_burst() -> None:
    client = Client()
    client.measures(DOWN)
    assert len(client.server.due(MEASURED_S - 0.1)) < 9 * BLOCK_BYTES


def test_a_measurement_up_takes_its_bytes_and_shows_when_it_is_too_fast() -> None:
    client = Client()
    client.measures(UP)
    client.sends(set_chunk_size(BLOCK_BYTES))
    block = Message(MessageType.AUDIO, bytes(BLOCK_BYTES))
    taken = 0
    while not client.server.is_ahead(0.0):
        assert client.sends(block, 0.0) == []
        taken += BLOCK_BYTES
    assert taken == pytest.approx(8 * BLOCK_BYTES, abs=BLOCK_BYTES)
    assert not client.server.is_ahead(0.1)


def test_more_than_a_measurement_may_have_ends_the_connection() -> None:
    client = Client()
    client.measures(UP)
    client.sends(set_chunk_size(BLOCK_BYTES))
    block = client.writer.write(Message(MessageType.AUDIO, bytes(BLOCK_BYTES)))
    for _ in range(MEASURED_BYTES // len(block)):
        client.server.receive(block, 1.0)
    with pytest.raises(RTMPError, match="more bytes than"):
        client.server.receive(block, 1.0)


def test_without_a_measurement_few_bytes_are_taken() -> None:
    client = Client()
    for _ in range(16):
        client.sends(Message(MessageType.AUDIO, bytes(1000)))
    with pytest.raises(RTMPError, match="more bytes than"):
        client.sends(Message(MessageType.AUDIO, bytes(1000)))


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_measurement_needs_permission(direction: str) -> None:
    client = Client(permits=False)
    assert client.measures(direction).name == "_error"
    assert client.asked == 1
    assert not client.server.is_measuring
    assert client.server.due(1.0) == b""


def test_an_unknown_direction_is_refused_without_asking() -> None:
    client = Client()
    assert client.measures("sideways").name == "_error"
    assert client.asked == 0


def test_a_second_measurement_ends_the_first_and_needs_permission_too() -> None:
    client = Client()
    client.measures(UP)
    client.measures(DOWN, 1.0)
    assert client.asked == 2
    assert client.server.due(1.0)
