"""The reader of answers: its limits. test_client.py has whole conversations."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.errors import BadResponse
from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.answers import AnswerReader

LIMITS = Limits()


def head(fields: int) -> bytes:
    lines = b"".join(b"X%d:\r\n" % number for number in range(fields - 1))
    return b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + lines + b"\r\n"


def read(wire: bytes) -> AnswerReader:
    reader = AnswerReader(LIMITS)
    reader.receive(wire)
    reader.next_head()
    return reader


def test_as_many_fields_as_the_limit_are_accepted() -> None:
    assert read(head(LIMITS.head_fields) + b"a").next_piece() == b"a"
    with pytest.raises(BadResponse, match="too many fields"):
        read(head(LIMITS.head_fields + 1))


def test_a_head_that_is_refused_is_not_remembered() -> None:
    tracemalloc.start()
    try:
        for number in range(32):
            with pytest.raises(BadResponse):
                read(head(1000 + number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 256 * 1024
