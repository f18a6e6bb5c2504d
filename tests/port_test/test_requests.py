"""Requests, as the gateway's own reader reads them, and their answers."""

from __future__ import annotations

import pytest

from gateway.errors import BadResponse
from gateway.port_test.requests import (
    ANSWER_BYTES,
    AnswerBody,
    Requests,
    read_session_id,
)
from gateway.protocols.commands import Kind, command_of
from gateway.protocols.limits import Limits
from gateway.protocols.responses import ResponseReader


@pytest.mark.parametrize("prefix", ["", "http://host:80"])
def test_commands_are_those_of_rtmpt(prefix: str) -> None:
    requests = Requests("host:80", prefix)
    commands = {
        requests.open(): (Kind.OPEN, b"", None),
        requests.send("id", 0, b"data"): (Kind.SEND, b"id", 0),
        requests.idle("id", 1): (Kind.IDLE, b"id", 1),
        requests.close("id", 2): (Kind.CLOSE, b"id", 2),
    }
    for request, command in commands.items():
        method, target, _ = request.split(b" ", 2)
        assert command_of(method, target) == command
    assert requests.send("id", 0, b"data").endswith(b"\r\nContent-Length: 4\r\n\r\ndata")


@pytest.mark.parametrize(
    ("body", "session_id"),
    [
        (b"1234567890123\n", "1234567890123"),
        (b"aa00-_xyz", "aa00-_xyz"),
        (b"", None),
        (b"<html>", None),
        (b"two words", None),
        (b"a" * 64, None),
        (b"a/b", None),
    ],
)
def test_a_session_id_is_told_from_a_page(body: bytes, session_id: str | None) -> None:
    assert read_session_id(body) == session_id


def answer_of(*pieces: bytes) -> AnswerBody:
    answer = AnswerBody(ResponseReader(Limits(), to_head=False))
    for piece in pieces:
        answer.receive(piece)
    return answer


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
def test_an_answer_is_collected_whole_and_byte_by_byte(response: bytes) -> None:
    for pieces in ([response], [bytes([byte]) for byte in response]):
        answer = answer_of(*pieces)
        assert answer.ended
        assert answer.reusable
        assert answer.received == b"body"
        assert answer.refusal is None


def test_a_refusal_is_known_by_the_head_alone() -> None:
    head = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 1000\r\n\r\n"
    assert answer_of(head).refusal == 407


def test_an_answer_without_an_end_is_refused() -> None:
    answer = answer_of(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(BadResponse):
        answer.receive(bytes(ANSWER_BYTES + 1))
