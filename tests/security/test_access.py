"""Limits on what a client can cause by commands that are checked."""

from __future__ import annotations

from time import process_time

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.access_gate import AccessGate
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType

HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)


def command(*values: amf0.Value) -> bytes:
    return ChunkWriter().write(Message(MessageType.COMMAND, amf0.encode(*values), 1))


def connected() -> AccessGate:
    gate = AccessGate()
    gate.up(HANDSHAKE + command("connect", 1, {"app": "live"}), 0.0)
    gate.allow()
    return gate


def requests_of(gate: AccessGate, data: bytes, now: float) -> int:
    """How many requests ``data`` makes, all of them allowed, until an error."""
    requests = 0
    try:
        gate.up(data, now)
        while gate.request is not None:
            requests += 1
            gate.allow()
    except RTMPError:
        pass
    return requests


def test_a_client_can_make_a_hundred_requests_at_once_and_five_a_second_later() -> None:
    """Each request may call the operator's server."""
    play = command("play", 1, None, "x")
    gate = connected()
    assert 90 < requests_of(gate, play * 90, 0.0) + 1 <= 110
    assert requests_of(connected(), play * 1000, 0.0) < 120
    assert requests_of(gate, play * 5, 1.0) == 5


@pytest.mark.parametrize("message", ["empty", "command"])
def test_a_megabyte_of_small_messages_takes_little_time(message: str) -> None:
    small = b"\x03" + bytes(11) if message == "empty" else command("x", 1)
    gate = connected()
    begun = process_time()
    with pytest.raises(RTMPError, match="too many small chunks"):
        gate.up(small * ((1 << 20) // len(small)), 0.0)
    assert process_time() - begun < 1.0
