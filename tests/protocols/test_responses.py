"""The response parser: valid and refused responses, and the ends of bodies."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import frozen

from gateway.errors import BadResponse
from gateway.protocols.limits import Limits
from gateway.protocols.responses import MOST_INTERIM, Framing, Response, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@frozen
class Vector:
    """A response on the wire, and the expected result of parsing."""

    name: str
    wire: bytes
    status: int
    framing: Framing
    body: bytes = b""
    to_head: bool = False
    persistent: bool = True


VECTORS = (
    Vector("length", OK + b"Content-Length: 5\r\n\r\nhello", 200, Framing.LENGTH, b"hello"),
    Vector("length 0", OK + b"Content-Length: 0\r\n\r\n", 200, Framing.LENGTH),
    Vector(
        "leading zeros", OK + b"Content-Length: 005\r\n\r\nhello", 200, Framing.LENGTH, b"hello"
    ),
    Vector(
        "chunked", CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 200, Framing.CHUNKED, b"hello!"
    ),
    Vector("chunked and empty", CHUNKED + b"0\r\n\r\n", 200, Framing.CHUNKED),
    Vector("extension", CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n", 200, Framing.CHUNKED, b"hello"),
    Vector("trailer", CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", 200, Framing.CHUNKED, b"a"),
    Vector("CHUNKED", OK + b"transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", 200, Framing.CHUNKED),
    Vector("HEAD", OK + b"Content-Length: 5\r\n\r\n", 200, Framing.NONE, to_head=True),
    Vector("HEAD, chunked", CHUNKED, 200, Framing.NONE, to_head=True),
    Vector("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204, Framing.NONE),
    Vector("304", b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", 304, Framing.NONE),
    Vector("no phrase", b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", 404, Framing.LENGTH),
    Vector("no space", b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, Framing.LENGTH),
    Vector(
        "close",
        OK + b"Content-Length: 1\r\nConnection: Close\r\n\r\na",
        200,
        Framing.LENGTH,
        b"a",
        persistent=False,
    ),
    Vector(
        "1.0",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        200,
        Framing.LENGTH,
        b"a",
        persistent=False,
    ),
    Vector(
        "1.0, kept alive",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na",
        200,
        Framing.LENGTH,
        b"a",
    ),
)

NONSENSE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "Icecast's": b"ICY 200 OK\r\n\r\n",
    "a later version": b"HTTP/2.0 200 OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 Odd\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a folded line": OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "no name": OK + b": a\r\n\r\n",
    "a null": OK + b"A: \0\r\n\r\n",
    "a bare LF": OK + b"A: b\nContent-Length: 0\r\n\r\n",
    "a bare CR": OK + b"A: b\rc\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a list of lengths": OK + b"Content-Length: 1, 1\r\n\r\na",
    "a length with a sign": OK + b"Content-Length: +1\r\n\r\na",
    "an empty length": OK + b"Content-Length:\r\n\r\na",
    "length and chunked": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked on 1.0": b"HTTP/1.0" + CHUNKED[8:] + b"0\r\n\r\n",
    "a chunk without its size": CHUNKED + b"\r\n\r\n",
    "a chunk with a sign": CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
    "a chunk of 2^64 bytes": CHUNKED + b"10000000000000000\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "a chunk's line ended by LF": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "an overlong head": OK + b"A: " + b"a" * 32768 + b"\r\n\r\n",
    "an endless head": OK + b"A: " + b"a" * 40000,
    "too many fields": OK + b"A: b\r\n" * 101 + b"\r\n",
}


def read(
    pieces: Iterable[bytes], to_head: bool = False
) -> tuple[ResponseReader, list[Response], bytes]:
    """Read all pieces. Returns the reader, the heads and the body."""
    reader, heads, body = ResponseReader(Limits(), to_head), [], b""
    for piece in pieces:
        reader.receive(piece)
        while (head := reader.next_head()) is not None:
            heads.append(head)
        body += reader.next_piece()
    return reader, heads, body


def byte_by_byte(wire: bytes) -> list[bytes]:
    return [wire[i : i + 1] for i in range(len(wire))]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
@pytest.mark.parametrize("cut", [lambda wire: [wire], byte_by_byte], ids=["whole", "bytes"])
def test_a_valid_response_is_parsed(vector: Vector, cut) -> None:
    reader, (head,), body = read(cut(vector.wire), vector.to_head)
    assert (head.status, head.framing, body) == (vector.status, vector.framing, vector.body)
    assert reader.ended
    assert head.persistent == vector.persistent
    assert reader.reusable == (vector.persistent and vector.framing is not Framing.NONE)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
@pytest.mark.parametrize("cut", [lambda wire: [wire], byte_by_byte], ids=["whole", "bytes"])
def test_bytes_after_a_response_are_not_read_and_prevent_reuse_of_the_connection(
    vector, cut
) -> None:
    reader, heads, body = read(cut(vector.wire + OK + b"\r\n"), vector.to_head)
    assert (len(heads), body) == (1, vector.body)
    assert reader.ended
    assert not reader.reusable


@pytest.mark.parametrize("wire", NONSENSE.values(), ids=NONSENSE)
def test_a_malformed_response_is_refused_whole_and_byte_by_byte(wire: bytes) -> None:
    for pieces in ([wire], byte_by_byte(wire)):
        with pytest.raises(BadResponse):
            read(pieces)


def test_interim_responses_are_read_before_the_final_response() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    wire = b"HTTP/1.1 100 Continue\r\n\r\n" + early + OK + b"Content-Length: 1\r\n\r\na"
    for pieces in ([wire], byte_by_byte(wire)):
        reader, heads, body = read(pieces)
        assert [head.status for head in heads] == [100, 103, 200]
        assert [head.interim for head in heads] == [True, True, False]
        assert body == b"a"
        assert reader.reusable


def test_interim_responses_without_end_are_refused() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    answer = OK + b"Content-Length: 1\r\n\r\na"
    _, heads, body = read([interim * MOST_INTERIM + answer])
    assert (len(heads), body) == (MOST_INTERIM + 1, b"a")
    for pieces in ([interim * (MOST_INTERIM + 1)], [interim] * (MOST_INTERIM + 1)):
        with pytest.raises(BadResponse, match="too many interim responses"):
            read(pieces)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    reader, (head,), body = read([OK + b"\r\nhel", b"lo"])
    assert (head.framing, body, reader.ended) == (Framing.UNTIL_CLOSE, b"hello", False)
    reader.close()
    assert reader.ended
    assert not reader.reusable


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        OK,
        OK + b"Content-Length: 2\r\n\r\na",
        CHUNKED + b"1\r\na\r\n",
        CHUNKED + b"1\r\na\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_incomplete_response_is_refused_when_the_connection_closes(wire: bytes) -> None:
    reader, _, _ = read([wire])
    with pytest.raises(BadResponse):
        reader.close()


def test_a_response_to_head_keeps_its_content_length() -> None:
    _, (head,), _ = read([OK + b"Content-Length: 7\r\n\r\n"], to_head=True)
    assert head.content_length == 7


def test_bytes_after_an_upgrade_are_not_parsed() -> None:
    wire = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00"
    reader = ResponseReader(Limits(), to_head=False)
    reader.receive(wire)
    head = reader.next_head()
    assert head is not None
    assert (head.status, reader.buffer) == (101, b"\x81\x00")


def test_a_response_has_begun_with_its_first_byte() -> None:
    reader = ResponseReader(Limits(), to_head=False)
    assert not reader.begun
    reader.receive(b"H")
    assert reader.begun


def test_a_piece_of_a_body_with_content_length_is_not_copied() -> None:
    reader, _, _ = read([OK + b"Content-Length: 100000\r\n\r\n"])
    piece = b"a" * 65536
    reader.receive(piece)
    assert reader.next_piece() is piece


@pytest.mark.parametrize("trailer", [b"Content-Length: 5", b": 5", b"X Y"])
def test_a_malformed_trailer_prevents_reuse_of_the_connection_but_the_body_is_valid(
    trailer: bytes,
) -> None:
    reader = ResponseReader(Limits(), to_head=False)
    reader.receive(CHUNKED + b"1\r\na\r\n0\r\n" + trailer + b"\r\n\r\n")
    assert reader.next_head() is not None
    assert reader.next_piece() == b"a"
    assert reader.ended
    assert not reader.reusable
