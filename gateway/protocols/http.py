"""A strict, incremental parser of HTTP/1.x requests.

Received bytes are added with ``receive``. The caller pulls the head of the next request, then its body, and
then the next head. Pulling provides back-pressure between pipelined requests and keeps their order: a
request that has not been pulled is bytes in a bounded buffer.

Accepted are HTTP/1.0 and 1.1, with one Host, and one Content-Length of digits or ``chunked`` alone; no
folded lines, bare LF or CR, white space before a colon, or control characters (DESIGN.md). Any other
request raises ``BadRequest``, after which the connection must be closed, because the end of the request is
not known.

Clients repeat their fields byte for byte from one command to the next, as do all clients of the same
program. The part of a head that follows the target is therefore parsed once and cached by its bytes
(``_fields_of``). This and pulling are the reasons not to use httptools, which calls back for every field,
and for all requests of a segment at once; ``tests/bench`` has the figures.

This module does not know the meaning of a request, its sender, or any deadline.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from attrs import field, frozen

from gateway.errors import BadRequest, BodyTooLarge, ExpectationFailed, HeadTooLarge
from gateway.protocols.fields import FORBIDDEN, TOKEN, Items, items_of, tokens, values
from gateway.protocols.limits import Limits

_REQUEST = re.compile(rb"(?:\r\n)?(%b) ([!-~]+)(?= HTTP/1\.[01]\r\n)" % TOKEN)
_LINE = re.compile(rb"(%b) ([!-~]+)" % TOKEN)
_VERSION_BYTES = len(b" HTTP/1.1\r\n")
# RFC 9110, 7.2 and 4.2.2: a host and a port, without user information; host names are not checked further.
HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
# A size below 2^32, and chunk extensions, which are ignored (RFC 9112, 7.1.1), up to a limit.
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n")
_CHUNK_HEAD_BYTES = 256
# The cache of heads, each of at most ``head_bytes``, for about 200 different clients.
_REMEMBERED_HEADS = 256


@frozen
class Fields:
    """The HTTP version and header fields of a request, and what follows from them.

    ``items``: names in lower case, and values without surrounding white space. ``rest``: the bytes that
    were parsed, from the end of the target to the end of the head.
    """

    version: int
    items: Items = field(repr=False)
    content_length: int
    chunked: bool
    persistent: bool
    expects_continue: bool
    rest: bytes = field(default=b"", repr=False)

    def value(self, name: bytes) -> bytes | None:
        """The first value of the field ``name`` (in lower case), or None."""
        return next((value for key, value in self.items if key == name), None)


# Placeholder before the first head: no buffer can have a head before a body of this length.
_NO_FIELDS = Fields(1, (), 1 << 62, False, True, False, b"\0")


class RequestReader:
    """The requests of one connection. ``method`` and ``target``: of the last head.

    ``buffer``: received bytes that have not been pulled yet.
    """

    __slots__ = (
        "_at",
        "_begun",
        "_fields",
        "_left",
        "_limits",
        "_pieces",
        "_seen",
        "_size",
        "_step",
        "buffer",
        "method",
        "target",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.buffer = b""
        # The parser step for the next bytes of the current body; None between requests.
        self._step: Callable[[RequestReader], bytes | None] | None = None
        # The position of the body's steps in ``buffer``; 0 outside ``next_piece``.
        self._at = 0
        # The fields of the last head.
        self._fields = _NO_FIELDS
        # How much of an incomplete head has been checked.
        self._seen = 0
        self._begun = False
        self._left = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self.method = b""
        self.target = b""

    @property
    def in_body(self) -> bool:
        """Whether the body of the last head is incomplete."""
        return self._step is not None

    @property
    def body_begun(self) -> bool:
        """Whether any byte of the current body has arrived."""
        return self._begun or bool(self.buffer)

    def receive(self, data: bytes) -> None:
        """Add bytes received from the connection."""
        self.buffer = self.buffer + data if self.buffer else data

    def next_head(self) -> Fields | None:
        """The head of the next request, or None if it is incomplete. The last body must be complete.

        Raises BadRequest, HeadTooLarge.
        """
        buffer = self.buffer
        fields = self._fields
        end = len(buffer) - fields.content_length
        match = None
        if buffer.endswith(fields.rest, 0, end):
            # The buffer ends with the fields of the last request and a body of the same length. If the
            # bytes before them are one request line, this is the head, and its end need not be searched.
            match = _LINE.fullmatch(buffer, 0, end - len(fields.rest))
        if match is None:
            end = buffer.find(b"\r\n\r\n", self._seen) + 4
            if end == 3:
                self._check_unfinished_head(buffer)
                return None
            match = _REQUEST.match(buffer)
            if match is None:
                raise BadRequest("malformed request line")
            fields = _fields_of(buffer[match.end() : end])
            if len(fields.items) > self._limits.head_fields:
                raise HeadTooLarge("too many fields")
            self._fields = fields
        self._seen = 0
        if end > self._limits.head_bytes:
            raise HeadTooLarge("head over the limit")
        self.method, self.target = match.groups()
        self.buffer = buffer[end:]
        self._begun = False
        if fields.content_length:
            self._step = _read_length
            self._left = fields.content_length
        elif fields.chunked:
            self._step = _read_chunk_head
        return fields

    @property
    def held_bytes(self) -> int:
        """The size of the incomplete body, and of what follows it."""
        return self._size + len(self.buffer)

    def skip_line_end(self) -> None:
        """Discard a line end between requests, which some clients send after a body (RFC 9112, 2.2)."""
        if self.buffer == b"\r\n" and not self.in_body:
            self.buffer = b""

    def whole_body(self) -> bytes | None:
        """The body of the current request, or None if it is incomplete. b"" if it has none.

        Raises BadRequest, and BodyTooLarge as soon as its size is known to exceed the limit.
        """
        if self._step is None and not self._pieces:
            return b""
        if self._step is _read_length:
            self._check_size()
            left = self._left
            buffer = self.buffer
            if len(buffer) >= left and not self._pieces:
                self.buffer = buffer[left:]
                self._left = 0
                self._step = None
                return buffer[:left]
        while piece := self.next_piece():
            self._size += len(piece)
            self._pieces.append(piece)
            self._check_size()
        self._check_size()
        if self.in_body:
            return None
        body = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return body

    def next_piece(self) -> bytes:
        """The received part of the current body; b"" if there is none, or it is complete (``in_body``).

        Raises BadRequest.
        """
        pieces: list[bytes] = []
        while self._step is not None and self._at < len(self.buffer):
            try:
                piece = self._step(self)
            except BadRequest:
                if not pieces:
                    raise
                break
            if piece == b"":
                break
            if piece is not None:
                pieces.append(piece)
        self._begun = self._begun or self._at > 0
        # Sliced once for all pieces, because every chunk can be one byte.
        self.buffer = self.buffer[self._at :]
        self._at = 0
        return b"".join(pieces)

    def _check_size(self) -> None:
        if self._size + self._left > self._limits.body_bytes:
            raise BodyTooLarge("body over the limit")

    def _check_unfinished_head(self, buffer: bytes) -> None:
        if len(buffer) > self._limits.head_bytes:
            raise HeadTooLarge("head over the limit")
        # Refuse what can never become a head now, not at the deadline. Each byte is checked once, since a
        # head can arrive byte by byte.
        whole = len(buffer) - buffer.endswith(b"\r")
        if FORBIDDEN.search(buffer, self._seen, whole):
            raise BadRequest("control character in a head")
        if buffer.find(b"\n", max(self._seen, 2)) >= 0 and not _REQUEST.match(buffer):
            raise BadRequest("malformed request line")
        self._seen = max(0, whole - 3)

    def _take(self, after: Callable[[RequestReader], bytes | None] | None) -> bytes:
        """Take up to ``_left`` bytes. Once all are taken, ``after`` is the next step."""
        piece = self.buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = after
        return piece

    # The steps of a body. Each reads ``buffer`` from ``_at``, where there is at least one byte. It returns
    # bytes of the body, b"" if it needs more input, or None if another step is next.

    def _read_length(self) -> bytes:
        return self._take(None)

    def _read_chunk_head(self) -> bytes | None:
        most = self._at + _CHUNK_HEAD_BYTES
        match = _CHUNK_HEAD.match(self.buffer, self._at, most)
        if match is None:
            if self.buffer.find(b"\n", self._at, most) >= 0 or len(self.buffer) >= most:
                raise BadRequest("malformed chunk")
            return b""
        self._at = match.end()
        self._left = int(match[1], 16)
        self._step = _read_chunk_data if self._left else _read_trailer
        return None

    def _read_chunk_data(self) -> bytes:
        return self._take(_read_chunk_end)

    def _read_chunk_end(self) -> bytes | None:
        end = self.buffer[self._at : self._at + 2]
        if end == b"\r":
            return b""
        if end != b"\r\n":
            raise BadRequest("chunk without its end")
        self._at += 2
        self._step = _read_chunk_head
        return None

    def _read_trailer(self) -> bytes | None:
        """Trailer fields are checked like header fields, and discarded."""
        at, most = self._at, self._at + self._limits.head_bytes
        end = at + 2
        if not self.buffer.startswith(b"\r\n", at):
            end = self.buffer.find(b"\r\n\r\n", at, most) + 4
        if end == 3:
            if len(self.buffer) >= most:
                raise HeadTooLarge("trailer over the limit")
            return b""
        items_of(self.buffer[at:end])
        self._at = end
        self._step = None
        return None


_read_length = RequestReader._read_length
_read_chunk_head = RequestReader._read_chunk_head
_read_chunk_data = RequestReader._read_chunk_data
_read_chunk_end = RequestReader._read_chunk_end
_read_trailer = RequestReader._read_trailer


@lru_cache(maxsize=_REMEMBERED_HEADS)
def _fields_of(rest: bytes) -> Fields:
    """Parse a head from the end of the target: `` HTTP/1.x``, CR LF, the fields, and the empty line."""
    version = rest[_VERSION_BYTES - 3] - ord(b"0")
    items = items_of(rest[_VERSION_BYTES:])
    _check_host(version, items)
    connection = tokens(items, b"connection")
    return Fields(
        version=version,
        items=items,
        content_length=_content_length(items),
        chunked=_is_chunked(version, items),
        persistent=b"close" not in connection and (version == 1 or b"keep-alive" in connection),
        expects_continue=_expects_continue(version, items),
        rest=rest,
    )


def _check_host(version: int, items: Items) -> None:
    hosts = values(items, b"host")
    if len(hosts) > 1 or (version and not hosts):
        raise BadRequest("not one Host")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise BadRequest("malformed Host")


def _content_length(items: Items) -> int:
    lengths = values(items, b"content-length")
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadRequest("not one Content-Length of digits")
    if values(items, b"transfer-encoding"):
        raise BadRequest("both Content-Length and Transfer-Encoding")
    return int(lengths[0])


def _is_chunked(version: int, items: Items) -> bool:
    encodings = values(items, b"transfer-encoding")
    if not encodings:
        return False
    if not version or len(encodings) > 1 or encodings[0].lower() != b"chunked":
        raise BadRequest("Transfer-Encoding other than chunked alone")
    return True


def _expects_continue(version: int, items: Items) -> bool:
    expectations = values(items, b"expect")
    if not expectations or not version:
        return False
    if len(expectations) > 1 or expectations[0].lower() != b"100-continue":
        raise ExpectationFailed("an expectation other than 100-continue")
    return True
