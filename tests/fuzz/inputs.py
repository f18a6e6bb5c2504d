"""Inputs of the targets: how they arrive, and streams to begin with.

Where an input is a stream, its first byte is the size of the pieces in which it arrives (0: one piece). The
result must not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.protocols.port_test import measuring
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import EcmaArray, Value
from gateway.protocols.rtmp.answers import status
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, VERSION
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    set_chunk_size,
    user_control,
    window_acknowledgement_size,
)

HANDSHAKE = bytes([VERSION]) + bytes(HANDSHAKE_BYTES - 1)
# A read of a socket takes longer than all that the readers do with one byte.
_MOST_PIECES = 1000
# Larger inputs are read once only, since their time is measured.
COMPARED_BYTES = 4096


def in_pieces(data: bytes) -> Iterator[bytes]:
    size = data[0] if data else 0
    size = max(size or len(data), len(data) // _MOST_PIECES, 1)
    return (data[at : at + size] for at in range(1, len(data), size))


_ASKED: Value = {"app": "live", "tcUrl": "rtmp://host/live", "flashVer": "test"}
_CONNECT = Command("connect", 1.0, _ASKED).message()


def _rtmp_stream() -> bytes:
    """A client that connects, publishes and sends media, in small chunks and in large ones."""
    writer = ChunkWriter()
    messages = [
        _CONNECT,
        set_chunk_size(4096),
        Command("createStream", 2.0).message(),
        Command("publish", 3.0, None, ("name", "live"), 1).message(),
        Message(MessageType.DATA, amf0.encode("@setDataFrame", "onMetaData", EcmaArray()), 1),
        Message(MessageType.VIDEO, b"\x17\x00\x00\x00\x00avcC", 1),
        Message(MessageType.VIDEO, b"\x17\x01\x00\x00\x00key", 1, 0x1000000),
        Message(MessageType.AUDIO, b"\xaf\x01" + bytes(5000), 1, 0x1000001),
        Message(
            MessageType.COMMAND_AMF3,
            b"\0" + amf0.encode("play", 0.0, None, "name") + b"\x11\x01",
            1,
        ),
        Message(MessageType.USER_CONTROL, b"\0\x06\0\0\0\x01"),
    ]
    return b"".join(map(writer.write, messages))


def measuring_stream() -> bytes:
    """A client of the loopback."""
    writer = ChunkWriter()
    messages = [
        Message(MessageType.USER_CONTROL, b"\0\x06\0\0\0\x01"),
        Command(measuring.MEASURE, 1.0, None, (measuring.UP,)).message(),
        set_chunk_size(measuring.BLOCK_BYTES),
        Message(MessageType.AUDIO, bytes(measuring.BLOCK_BYTES)),
        Command(measuring.MEASURE, 2.0, None, (measuring.DOWN,)).message(),
    ]
    return b"".join(map(writer.write, messages))


RTMP = [size + _rtmp_stream() for size in (b"\0", b"\x01", b"\x64")]
# The size of the pieces and the connect.
RTMP_CONNECT_BYTES = 1 + len(ChunkWriter().write(_CONNECT))


def played() -> bytes:
    """A server that accepts connect (1), createStream (2), play, and measure (4), and sends media."""
    return b"".join(
        map(
            ChunkWriter().write,
            [
                window_acknowledgement_size(1000),
                *_ACCEPTED,
                Command("_result", 2.0, None, (1.0,)).message(),
                Command("_result", 4.0, None, ({"bytes_per_s": 1e6},)).message(),
                status(1, "NetStream.Play.Start", "now"),
                user_control(UserControl.PING_RESPONSE, 1),
                Message(MessageType.VIDEO, bytes(300), 1, 40),
            ],
        )
    )


_ACCEPTED = (
    user_control(UserControl.PING_REQUEST, 5),
    Command("_result", 1.0, {}, ({"code": "NetConnection.Connect.Success"},)).message(),
)
# A server's answers to a publisher whose createStream is its fourth command, or its second.
PUBLISHED = b"".join(
    map(
        ChunkWriter().write,
        [
            *_ACCEPTED,
            Command("_result", 2.0, None, (1.0,)).message(),
            Command("_result", 4.0, None, (1.0,)).message(),
            status(1, "NetStream.Publish.Start", "now"),
        ],
    )
)
SERVER_MESSAGES = b"".join(
    map(
        ChunkWriter().write,
        [
            user_control(UserControl.STREAM_BEGIN, 1),
            Command("_result", 1.0, {}, ({"code": "NetConnection.Connect.Success"},)).message(),
            Command("onFCPublish", 0.0, None, ({},)).message(),
            Command("_error", 3.0, None, ({"description": "x" * 300},)).message(),
            Message(MessageType.AUDIO, bytes(300), 1),
        ],
    )
)
