"""Heads of the responses that the gateway creates itself, prepared in advance.

librtmp searches for ``HTTP/1.1 200 `` and for ``Content-Length: N`` with one space, and HaishinKit requires
this Content-Type (PROTOCOL.md, What each client needs). Responses to HTTP/1.0 state that the connection
persists, because the default is the opposite there. ``no-cache``, for proxies, is also sent by Flash Media
Server.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import final

from gateway.errors import RequestRefused
from gateway.protocols.cross_origin import CrossOrigin
from gateway.protocols.http import Fields

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# nginx does not buffer a response with X-Accel-Buffering: no (ngx_http_proxy_module, proxy_buffering).
# no-transform forbids proxies to change the body (RFC 9111, 5.2.2.6), for which some would buffer it.
_STREAMED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\n"
    b"Cache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\n"
)
# The end of one chunk and the beginning of the next are written together (RFC 9112, 7.1).
LAST_CHUNK = b"\r\n0\r\n\r\n"


# librtmp fails if a head crosses the end of its receive buffer (streaming.REST_S), which is less likely for
# a short one. It has no fields for proxies, and is used for direct connections.
_BRIEF = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def streamed_head(length: int | None, first_bytes: int, is_direct: bool = False) -> bytes:
    """The head of a streamed answer, up to its body's first ``first_bytes``; chunked without ``length``.

    ``is_direct``: the connection is known to have no buffering proxy.
    """
    if length is not None and is_direct:
        return _BRIEF % length
    if length is None:
        return b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (_STREAMED, first_bytes)
    return b"%bContent-Length: %d\r\n\r\n" % (_STREAMED, length)


def next_chunk(size: int) -> bytes:
    """The end of a chunk and the beginning of the next one, of that size."""
    return b"\r\n%x\r\n" % size


@final
class ResponseHeads:
    """The heads for one kind of connection: persistent or not, by ``connection_field``.

    ``fields``: further field lines of every answer. ``closing``: the heads of the same answers, if the
    connection is closed after them; these themselves if it is not given.
    ``one_byte[n]`` is the complete response 200 with the body ``n``.
    """

    __slots__ = ("_field", "_head", "closes", "closing", "one_byte")

    def __init__(
        self,
        connection_field: bytes,
        closing: ResponseHeads | None = None,
        fields: bytes = b"",
    ) -> None:
        self.closes = closing is None
        self.closing = closing or self
        self._field = connection_field + fields
        self._head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\nCache-Control: no-cache\r\n"
            + self._field
            + b"Content-Length: "
        )
        self.one_byte = [b"%b1\r\n\r\n%c" % (self._head, octet) for octet in range(256)]

    def head(self, body_bytes: int, field: bytes = b"") -> bytes:
        """The head of the answer 200 with a body of that length. ``field``: further field lines."""
        return b"%b%d\r\n%b\r\n" % (self._head, body_bytes, field)

    def refusal(self, error: RequestRefused) -> bytes:
        """The whole answer to a refused request: its body is empty, and the cause is not sent."""
        return self.whole(error.status)

    def whole(
        self, status: int, lines: bytes = b"", body: bytes = b"", sends_body: bool = True
    ) -> bytes:
        """A whole response that is no answer to a command. ``lines``: its own field lines.

        Without ``sends_body``, it is the response to a HEAD request.
        """
        head = b"%b%bContent-Length: %d\r\n\r\n" % (self._beginning(status), lines, len(body))
        return head + body if sends_body else head

    def without_content(self, status: int, lines: bytes) -> bytes:
        """A whole response with a status that has no content, such as 204 and 304."""
        return b"%b%b\r\n" % (self._beginning(status), lines)

    def _beginning(self, status: int) -> bytes:
        phrase = HTTPStatus(status).phrase.encode()
        return b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, self._field)


# Values of the Connection field: the connection closes; it persists; it persists, and the response must say
# so.
_CLOSES, _STAYS, _STAYS_AS_ASKED = b"Connection: close\r\n", b"", b"Connection: keep-alive\r\n"

CLOSES = ResponseHeads(_CLOSES)
STAYS = ResponseHeads(_STAYS, CLOSES)
STAYS_AS_ASKED = ResponseHeads(_STAYS_AS_ASKED, CLOSES)


def response_heads(request: Fields) -> ResponseHeads:
    """The answers to a request with these fields."""
    if not request.persistent:
        return CLOSES
    return STAYS if request.version else STAYS_AS_ASKED


@final
class CrossOriginHeads:
    """The answers to commands where browsers may send them from other origins."""

    def __init__(self, cross_origin: CrossOrigin) -> None:
        self._cross_origin = cross_origin
        # By origin: as many as are allowed.
        self._made: dict[bytes, dict[ResponseHeads, ResponseHeads]] = {}

    def of(self, request: Fields) -> ResponseHeads:
        """As ``response_heads``, with the fields that allow the request's origin."""
        plain = response_heads(request)
        origin = self._cross_origin.origin_of(request.items)
        if not origin:
            return plain
        made = self._made.get(origin)
        if made is None:
            made = self._made[origin] = _for_origin(self._cross_origin.of_answer(origin))
        return made[plain]


def _for_origin(fields: bytes) -> dict[ResponseHeads, ResponseHeads]:
    """The heads with these fields, by those without."""
    closes = ResponseHeads(_CLOSES, None, fields)
    return {
        CLOSES: closes,
        STAYS: ResponseHeads(_STAYS, closes, fields),
        STAYS_AS_ASKED: ResponseHeads(_STAYS_AS_ASKED, closes, fields),
    }
