"""Limits on the work of the passive reader, counted in messages."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.rtmp import passive
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.passive import Facts, PassiveReader

HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)
# A message of no bytes, and its repetitions of a byte each.
EMPTY_MESSAGES = b"\x03" + bytes(11) + b"\xc3" * 512 * 1024


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces passed to the reader's chunk reader."""
    sizes: list[int] = []
    feed: Any = ChunkReader.feed

    def counted(self: ChunkReader, data: bytes, now: float) -> Any:
        sizes.append(len(data))
        return feed(self, data, now)

    monkeypatch.setattr(ChunkReader, "feed", counted)
    return sizes


@pytest.mark.parametrize("piece_bytes", [1000, 512 * 1024])
def test_the_reading_of_a_client_that_neither_publishes_nor_plays_is_limited(
    fed: list[int], piece_bytes: int
) -> None:
    facts = Facts()
    reader: PassiveReader | None = PassiveReader(facts)
    stream = HANDSHAKE + EMPTY_MESSAGES
    for at in range(0, len(stream), piece_bytes):
        if reader is not None:
            reader = reader.up(stream[at : at + piece_bytes], 0.0)
    assert reader is None
    assert 0 < sum(fed) <= passive._UNKNOWN_BYTES
    assert facts.unreadable


def test_the_reading_of_a_client_with_ordinary_messages_is_limited_in_bytes(fed: list[int]) -> None:
    facts = Facts()
    reader: PassiveReader | None = PassiveReader(facts)
    stream = HANDSHAKE + message(8, bytes(128)) * 8192
    assert len(stream) > passive._UNKNOWN_BYTES
    for at in range(0, len(stream), 1000):
        if reader is not None:
            reader = reader.up(stream[at : at + 1000], 0.0)
    assert reader is None
    assert sum(fed) == passive._UNKNOWN_BYTES
    assert facts.unreadable


class NoFigures:
    def client_pinged(self, seconds: float) -> None: ...

    def upstream_pinged(self, seconds: float) -> None: ...

    def media_came(self, late_s: float) -> None: ...


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one element for each chunk header read."""
    read: list[int] = []
    begin: Any = ChunkReader._begin_chunk

    def counted(self: ChunkReader, *args: Any) -> Any:
        read.append(1)
        return begin(self, *args)

    monkeypatch.setattr(ChunkReader, "_begin_chunk", counted)
    return read


def message(kind: int, payload: bytes) -> bytes:
    """A message of one chunk, with a header of format 0."""
    return b"\x03" + bytes(3) + len(payload).to_bytes(3, "big") + bytes((kind, *bytes(4))) + payload


def publishing() -> PassiveReader:
    """A reader of media, past the handshakes, of a client that publishes."""
    reader = PassiveReader(Facts(), NoFigures())
    reader.facts.action = "publish"
    assert reader.up(HANDSHAKE, 0.0) is reader
    assert reader.down(HANDSHAKE, 0.0) is reader
    return reader


@pytest.mark.parametrize("side", ["up", "down"])
@pytest.mark.parametrize(
    "stream",
    [EMPTY_MESSAGES, message(4, b"\x00\x06ping") * 40_000],
    ids=["a message a byte", "pings"],
)
def test_the_reading_of_each_side_of_a_measured_stream_is_limited_in_chunks(
    headers: list[int], side: str, stream: bytes
) -> None:
    reader: PassiveReader | None = publishing()
    fed_bytes = 0
    while reader is not None and fed_bytes < len(stream):
        piece = stream[fed_bytes : fed_bytes + 64 * 1024]
        reader = getattr(reader, side)(piece, 0.0)
        fed_bytes += len(piece)
    assert reader is None
    limits = passive._LIMITS
    assert len(headers) <= limits.chunks_saved + fed_bytes // limits.bytes_a_chunk + 1


def test_a_command_of_many_values_counts_as_several_chunks() -> None:
    reader: PassiveReader | None = publishing()
    values = message(20, b"\x02\x00\x01x\x00" + bytes(8) + b"\x05" * 100)
    for _ in range(1000):
        if reader is not None:
            reader = reader.up(values, 0.0)
    assert reader is None


@pytest.mark.parametrize(
    ("payload_bytes", "a_second", "seconds"),
    [(8, 100, 600), (128, 8000, 2), (40, 5000, 1)],
    ids=["silence", "8 Mbit/s in small chunks", "a burst of speech"],
)
def test_ordinary_streams_of_small_messages_are_read_completely(
    payload_bytes: int, a_second: int, seconds: int
) -> None:
    reader: PassiveReader | None = publishing()
    for second in range(seconds):
        assert reader is not None
        reader = reader.up(message(8, bytes(payload_bytes)) * a_second, float(second))
    assert reader is not None
