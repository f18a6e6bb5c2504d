"""Answers of the port test."""

from __future__ import annotations

from gateway.protocols.limits import Limits
from gateway.protocols.port_test.answers import SMALL, Heads, upload_body
from gateway.protocols.port_test.resources import PIECE_BYTES, PIECES
from gateway.protocols.responses import ResponseReader


def test_pieces_are_one_chunked_answer() -> None:
    heads = Heads(1, b"Access-Control-Allow-Origin: http://a\r\n")
    reader = ResponseReader(Limits(), False)
    reader.receive(heads.pieces())
    head = reader.next_head()
    assert head is not None
    assert (b"x-accel-buffering", b"no") in head.items
    assert (b"access-control-allow-origin", b"http://a") in head.items
    body = b""
    for number in range(PIECES):
        assert not reader.ended
        reader.receive(heads.piece(number))
        body += reader.next_piece()
    assert reader.ended
    assert len(body) == PIECES * PIECE_BYTES
    assert body.endswith(b".%d\n" % (PIECES - 1))


def test_pieces_for_http_1_0_end_with_the_connection() -> None:
    heads = Heads(0, closes=True)
    assert b"Connection: close\r\n" in heads.pieces()
    assert b"chunked" not in heads.pieces()
    assert len(heads.piece(PIECES - 1)) == PIECE_BYTES


def test_answers_say_whether_the_connection_persists() -> None:
    assert b"Connection" not in Heads(1).whole(SMALL, b"x")
    assert b"Connection: keep-alive\r\n" in Heads(0).whole(SMALL, b"x")
    assert b"Connection: close\r\n" in Heads(1, closes=True).refusal(429)


def test_an_answer_to_options_permits_the_type_of_tunnels_and_has_no_body() -> None:
    answer = Heads(1).preflight()
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Access-Control-Allow-Headers: content-type\r\n" in answer
    assert b"Content-Length" not in answer
    assert answer.endswith(b"\r\n\r\n")


def test_the_answer_to_an_upload_is_json() -> None:
    assert upload_body(5, 907060870) == b'{"bytes": 5, "crc32": 907060870}\n'
