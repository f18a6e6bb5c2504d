"""Strict, incremental parser of HTTP/1.x responses from the website's server.

A reader parses the response to one request. Received bytes are added with ``receive``. The caller pulls
heads with ``next_head`` (at most ``MOST_INTERIM`` interim ones, then the final one), and then pieces of
the body.

Heads have the same checks as those of requests. The end of the body is determined as follows:

    framing       condition                                         end of the body
    none          HEAD, 1xx, 204, 304 (RFC 9112, 6.3)               with the head
    length        one Content-Length of digits                      after this number of bytes
    chunked       ``Transfer-Encoding: chunked`` alone, on 1.1      with the last chunk
    until close   neither                                           with the connection

Everything else raises BadResponse: both fields, a repeated one, another coding, a folded line, an unknown
version. Chunks are parsed by llhttp, which is strict and fast for small chunks. Bodies with a length are
counted here, which avoids copies.

This module does not know the client, or the use of the response.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import final

from attrs import field, frozen
from httptools import HttpParserError, HttpResponseParser

from gateway.errors import BadRequest, BadResponse
from gateway.protocols.fields import FORBIDDEN, Items, field_lines, items_of, tokens, values
from gateway.protocols.limits import Limits

# RFC 9112, 4. The phrase is optional; some servers also omit the space before it.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")
_BEGINNING = b"HTTP/1."
_LENGTH = re.compile(rb"[0-9]{1,18}")
SWITCHING_PROTOCOLS = 101
# Interim responses to one request. A server that works for an hour may send a 102 every ten seconds. One
# read can have 4,096 of the shortest, and each costs a copy of the bytes behind it.
MOST_INTERIM = 500
_WITHOUT_BODY = frozenset((204, 304))
# RFC 9110, 8.6: these must not have a Content-Length.
_WITHOUT_LENGTH = 204
# Parsed by llhttp before the chunks. With "close", it refuses data after the last chunk.
_BEFORE_CHUNKS = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


class Framing(Enum):
    """How the end of a body is determined."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@frozen
class Response:
    """The head of a response. For one without a body, ``content_length`` is that of the omitted body."""

    status: int
    reason: bytes
    items: Items = field(repr=False)
    framing: Framing
    content_length: int | None
    persistent: bool

    @property
    def interim(self) -> bool:
        return self.status < 200


@final
class ResponseReader:
    """The response to one request. ``to_head``: whether that was a HEAD request.

    ``buffer``: received bytes that have not been pulled. ``begun``: whether any byte has been received.
    """

    __slots__ = (
        "_checked",
        "_chunks",
        "_framing",
        "_interim",
        "_left",
        "_limits",
        "_persistent",
        "_to_head",
        "begun",
        "buffer",
        "ended",
    )

    def __init__(self, limits: Limits, to_head: bool) -> None:
        self._limits = limits
        self._to_head = to_head
        self._framing: Framing | None = None
        self._left = 0
        self._interim = 0
        # How much of an incomplete head has been checked.
        self._checked = 0
        self._chunks: _Chunks | None = None
        self._persistent = False
        self.buffer = b""
        self.begun = False
        self.ended = False

    @property
    def reusable(self) -> bool:
        """Whether the connection may be reused for another request.

        False after a response without a body: some servers send a body nevertheless, which would be taken
        for the next response.
        """
        if self._framing is Framing.NONE:
            return False
        surplus = self.buffer or (self._chunks is not None and self._chunks.surplus)
        return self.ended and self._persistent and not surplus

    def receive(self, data: bytes) -> None:
        """Add bytes received from the server."""
        self.begun = True
        self.buffer = self.buffer + data if self.buffer else data

    def next_head(self) -> Response | None:
        """The next head, or None if it is incomplete, or a final head was returned before.

        Raises BadResponse.
        """
        if self._framing is not None:
            return None
        end = self.buffer.find(b"\r\n\r\n") + 4
        if (len(self.buffer) if end == 3 else end) > self._limits.head_bytes:
            raise BadResponse("head over the limit")
        if end == 3:
            self._check_beginning()
            return None
        head = self.buffer[:end]
        if field_lines(head) > self._limits.head_fields:
            raise BadResponse("too many fields")
        response = response_of(head, self._to_head)
        self.buffer = self.buffer[end:]
        self._checked = 0
        if response.interim:
            self._interim += 1
            check_interim(self._interim)
        else:
            self._begin_body(response)
        return response

    def next_piece(self) -> bytes:
        """The received part of the body that has not been pulled; b"" if there is none.

        Raises BadResponse.
        """
        if self.ended or not self.buffer or self._framing is None:
            return b""
        buffer, self.buffer = self.buffer, b""
        if self._chunks is not None:
            piece = self._chunks.decode(buffer)
            self.ended = self._chunks.ended
            return piece
        if self._framing is Framing.UNTIL_CLOSE:
            return buffer
        piece = buffer[: self._left]
        self._left -= len(piece)
        self.ended = not self._left
        if self.ended:
            self.buffer = buffer[len(piece) :]
        return piece

    def close(self) -> None:
        """The server has closed the connection. Raises BadResponse if the response is incomplete."""
        if not self.ended and self._framing is not Framing.UNTIL_CLOSE:
            raise BadResponse("closed before the end")
        self.ended = True
        self._persistent = False

    def _check_beginning(self) -> None:
        """Refuse an incomplete head as soon as it cannot become valid."""
        if not _BEGINNING.startswith(self.buffer[: len(_BEGINNING)]):
            raise BadResponse("not HTTP/1.x")
        # The last byte is checked again: a CR needs an LF after it.
        found = FORBIDDEN.search(self.buffer, self._checked)
        if found is not None and self.buffer[found.start() :] != b"\r":
            raise BadResponse("control character in the head")
        self._checked = max(len(self.buffer) - 1, 0)

    def _begin_body(self, response: Response) -> None:
        self._framing = response.framing
        self._persistent = response.persistent
        self._left = response.content_length or 0
        if response.framing is Framing.CHUNKED:
            self._chunks = _Chunks()
        self.ended = response.framing is Framing.NONE or (
            response.framing is Framing.LENGTH and not self._left
        )


@final
class _Chunks:
    """A chunked body. ``surplus``: whether data followed its end, or the trailer was malformed."""

    __slots__ = ("_in_trailer", "_parser", "_pieces", "ended", "surplus")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.ended = False
        self.surplus = False
        self._in_trailer = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.feed_data(_BEFORE_CHUNKS)

    def decode(self, data: bytes) -> bytes:
        """The content of the chunks in ``data``. Extensions and trailers are discarded."""
        if self._parser is None:
            self.surplus = True
            return b""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not (self.ended or self._in_trailer):
                raise BadResponse("malformed chunk") from error
            # The body is complete.
            self.ended = self.surplus = True
        if self.ended:
            # Breaks the reference cycle, so that no garbage collection is needed.
            self._parser = None
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    # Called by llhttp

    def on_chunk_header(self) -> None:
        # The last chunk is empty. The trailer follows.
        self._in_trailer = True

    def on_body(self, data: bytes) -> None:
        self._in_trailer = False
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.ended = True


def check_interim(number: int) -> None:
    """Raises BadResponse after so many interim responses to one request, if there are too many."""
    if number > MOST_INTERIM:
        raise BadResponse("too many interim responses")


def response_of(head: bytes, to_head: bool) -> Response:
    """Parse a whole head. ``to_head``: whether it answers a HEAD request. Raises BadResponse."""
    match = _STATUS_LINE.match(head)
    if match is None:
        raise BadResponse("malformed status line")
    version, status = int(match[1]), int(match[2])
    try:
        items = items_of(head[match.end() :])
    except BadRequest as error:
        raise BadResponse("malformed field") from error
    length = _content_length(items)
    connection = tokens(items, b"connection")
    return Response(
        status=status,
        reason=match[3] or b"",
        items=items,
        framing=_framing(version, status, items, length, to_head),
        content_length=None if status < 200 or status == _WITHOUT_LENGTH else length,
        persistent=b"close" not in connection if version else b"keep-alive" in connection,
    )


def _content_length(items: Items) -> int | None:
    lengths = values(items, b"content-length")
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadResponse("not one Content-Length of digits")
    if values(items, b"transfer-encoding"):
        raise BadResponse("both Content-Length and Transfer-Encoding")
    return int(lengths[0])


def _framing(version: int, status: int, items: Items, length: int | None, to_head: bool) -> Framing:
    encodings = [value.lower() for value in values(items, b"transfer-encoding")]
    if encodings and (encodings != [b"chunked"] or not version):
        raise BadResponse("Transfer-Encoding other than chunked alone")
    if to_head or status < 200 or status in _WITHOUT_BODY:
        return Framing.NONE
    if encodings:
        return Framing.CHUNKED
    return Framing.UNTIL_CLOSE if length is None else Framing.LENGTH
