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
from functools import lru_cache

from attrs import field, frozen

from gateway.errors import BadRequest, BodyTooLarge, ExpectationFailed, HeadTooLarge
from gateway.protocols.bodies import BodyReader, read_length
from gateway.protocols.fields import FORBIDDEN, TOKEN, Items, field_lines, items_of, tokens, values
from gateway.protocols.limits import Limits

_REQUEST = re.compile(rb"(?:\r\n)?(%b) ([!-~]+)(?= HTTP/1\.[01]\r\n)" % TOKEN)
_LINE = re.compile(rb"(%b) ([!-~]+)" % TOKEN)
_VERSION_BYTES = len(b" HTTP/1.1\r\n")
# RFC 9110, 7.2 and 4.2.2: a host and a port, without user information; host names are not checked further.
HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
# The cache of heads, each of at most ``head_bytes`` and ``head_fields``, for about 200 different clients.
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


class RequestReader(BodyReader):
    """The requests of one connection. ``method`` and ``target``: of the last head."""

    __slots__ = ("_fields", "_pieces", "_seen", "_size", "method", "target")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        # The fields of the last head.
        self._fields = _NO_FIELDS
        # How much of an incomplete head has been checked.
        self._seen = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self.method = b""
        self.target = b""

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
            rest = buffer[match.end() : end]
            self._check_head(rest, end)
            fields = self._fields = _fields_of(rest)
        elif end > self._limits.head_bytes:
            raise HeadTooLarge("head over the limit")
        self._seen = 0
        self.method, self.target = match.groups()
        self.buffer = buffer[end:]
        self._begin_body(fields.content_length, fields.chunked)
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
        if self._step is read_length:
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

    def _check_size(self) -> None:
        if self._size + self._left > self._limits.body_bytes:
            raise BodyTooLarge("body over the limit")

    def _check_head(self, rest: bytes, size: int) -> None:
        """Before the head is parsed, because what is parsed is remembered: a field takes more memory than
        its bytes.
        """
        if size > self._limits.head_bytes:
            raise HeadTooLarge("head over the limit")
        if field_lines(rest) > self._limits.head_fields:
            raise HeadTooLarge("too many fields")

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
