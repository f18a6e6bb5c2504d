"""HTTP/1.x requests, read strictly, one at a time, when asked for.

Bytes go in with ``receive``; the caller pulls the next head, then its body, and only then the head after
it. Pulling is what gives back-pressure between pipelined requests and keeps their order: a request that
nobody asked for is bytes in a bounded buffer and nothing else.

Strict means DESIGN.md's rules: HTTP/1.0 or 1.1, one Host, one Content-Length of digits or ``chunked``
alone, no folded lines, no bare LF or CR, no space before a colon, no control characters. What breaks one
is ``BadRequest`` and the connection is lost, since the end of such a request cannot be known for sure.

A client repeats its fields to the letter from one command to the next, and so does the next client of the
same make: all that follows the target in a head is therefore parsed once and remembered by its bytes
(``_fields_of``). That and pulling are why this is not httptools, whose callbacks run for every field of
every request and for all requests of a segment at once; ``tests/bench`` has the figures.

This module does not know what a request means, who sent it, or how long it took.
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
# RFC 9110, 7.2 and 4.2.2: a host and a port, no user, no list; a name's characters are not judged further.
HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
# A size of up to 2^32 and extensions, which nobody uses and RFC 9112, 7.1.1 wants ignored, up to a bound.
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n")
_CHUNK_HEAD_BYTES = 256
# Some 200 different clients' heads; each is at most head_bytes long.
_REMEMBERED_HEADS = 256


@frozen
class Fields:
    """What the head's version and fields say about the request, however it is meant.

    ``items`` has the names in lower case and the values without the white space around them; ``rest`` is
    what they were read from: the head behind its target.
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


# Behind such a length there is no head, so that none is like this one.
_NO_FIELDS = Fields(1, (), 1 << 62, False, True, False, b"\0")


class RequestReader:
    """One connection's requests. ``method`` and ``target`` are those of the head pulled last.

    ``buffer`` is what has arrived that no pull has taken yet.
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
        # What reads the next bytes of the current body; None between requests.
        self._step: Callable[[RequestReader], bytes | None] | None = None
        # How far the steps of a body have read ``buffer``; 0 whenever nobody is reading.
        self._at = 0
        # Of the head pulled last; before it, of one that no head can have.
        self._fields = _NO_FIELDS
        # How far an unfinished head has been looked at.
        self._seen = 0
        self._begun = False
        self._left = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self.method = b""
        self.target = b""

    @property
    def in_body(self) -> bool:
        """Whether a head was pulled whose body has not ended yet."""
        return self._step is not None

    @property
    def body_begun(self) -> bool:
        """Whether any byte of the current body has arrived."""
        return self._begun or bool(self.buffer)

    def receive(self, data: bytes) -> None:
        """Take bytes from the connection."""
        self.buffer = self.buffer + data if self.buffer else data

    def next_head(self) -> Fields | None:
        """The next request's head, or None until it is whole. The body before it must have ended.

        Raises BadRequest, HeadTooLarge.
        """
        buffer = self.buffer
        fields = self._fields
        end = len(buffer) - fields.content_length
        match = None
        if buffer.endswith(fields.rest, 0, end):
            # All but the line may be as in the request before, and nothing behind the body; if what comes
            # before is a line and no more, then this is the head, without looking for its end.
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
        """What waits here: of a body that is not whole, and behind it."""
        return self._size + len(self.buffer)

    def skip_line_end(self) -> None:
        """Drop a line end that stands alone between requests, as some clients send it behind a body
        (RFC 9112, 2.2)."""
        if self.buffer == b"\r\n" and not self.in_body:
            self.buffer = b""

    def whole_body(self) -> bytes | None:
        """The current request's whole body, or None until it is all there. b"" if it has none.

        Raises BodyTooLarge as soon as it is known to be longer than the limit, BadRequest.
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
        """What has come of the current body; b"" when there is none now, or it has ended (``in_body``).

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
        # Once for all pieces: a body can be in chunks of one byte each.
        self.buffer = self.buffer[self._at :]
        self._at = 0
        return b"".join(pieces)

    def _check_size(self) -> None:
        if self._size + self._left > self._limits.body_bytes:
            raise BodyTooLarge("body over the limit")

    def _check_unfinished_head(self, buffer: bytes) -> None:
        if len(buffer) > self._limits.head_bytes:
            raise HeadTooLarge("head over the limit")
        # What can never become a head is refused now, not when its peer has run into the deadline; what
        # has been looked at before is not looked at again, since a head can come byte by byte.
        whole = len(buffer) - buffer.endswith(b"\r")
        if FORBIDDEN.search(buffer, self._seen, whole):
            raise BadRequest("control character in a head")
        if buffer.find(b"\n", max(self._seen, 2)) >= 0 and not _REQUEST.match(buffer):
            raise BadRequest("malformed request line")
        self._seen = max(0, whole - 3)

    def _take(self, after: Callable[[RequestReader], bytes | None] | None) -> bytes:
        """What there is of ``_left`` bytes; once there are no more to come, ``after`` is next."""
        piece = self.buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = after
        return piece

    # The steps of a body: each takes what it can of ``buffer`` from ``_at`` on, where there is at least one
    # byte, and returns bytes of the body, b"" when it needs more, or None when another step is next.

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
        """Trailer fields are checked as fields are, and thrown away."""
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
    """What follows the target in a head: `` HTTP/1.x``, CR LF, the fields, and the empty line."""
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
