"""What one client can have the passive reader of RTMP do, counted in the messages that it reads."""

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
    """How many bytes the reader's chunk reader was given, piece by piece."""
    sizes: list[int] = []
    feed: Any = ChunkReader.feed

    def counted(self: ChunkReader, data: bytes) -> Any:
        sizes.append(len(data))
        return feed(self, data)

    monkeypatch.setattr(ChunkReader, "feed", counted)
    return sizes


@pytest.mark.parametrize("piece_bytes", [1000, 512 * 1024])
def test_a_client_that_neither_publishes_nor_plays_is_read_up_to_a_bound(
    fed: list[int], piece_bytes: int
) -> None:
    facts = Facts()
    reader: PassiveReader | None = PassiveReader(facts)
    stream = HANDSHAKE + EMPTY_MESSAGES
    for at in range(0, len(stream), piece_bytes):
        if reader is not None:
            reader = reader.up(stream[at : at + piece_bytes], 0.0)
    assert reader is None
    assert sum(fed) == passive._UNKNOWN_BYTES
    assert facts.unreadable
