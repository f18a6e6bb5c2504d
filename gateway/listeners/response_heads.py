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

    ``one_byte[n]`` is the complete response 200 with the body ``n``.
    """

    __slots__ = ("_field", "_head", "closes", "one_byte")

    def __init__(self, connection_field: bytes, closes: bool = False) -> None:
        self.closes = closes
        self._field = connection_field
        self._head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\nCache-Control: no-cache\r\n"
            + connection_field
            + b"Content-Length: "
        )
        self.one_byte = [b"%b1\r\n\r\n%c" % (self._head, octet) for octet in range(256)]

    def head(self, body_bytes: int, field: bytes = b"") -> bytes:
        """The head of the answer 200 with a body of that length. ``field``: a further field line."""
        return b"%b%d\r\n%b\r\n" % (self._head, body_bytes, field)

    def refusal(self, error: RequestRefused) -> bytes:
        """The whole answer to a refused request: its body is empty, and the cause stays inside."""
        status = HTTPStatus(error.status)
        return b"HTTP/1.1 %d %b\r\n%bContent-Length: 0\r\n\r\n" % (
            status,
            status.phrase.encode(),
            self._field,
        )


STAYS = ResponseHeads(b"")
STAYS_AS_ASKED = ResponseHeads(b"Connection: keep-alive\r\n")
CLOSES = ResponseHeads(b"Connection: close\r\n", closes=True)


def response_heads(version: int, persistent: bool) -> ResponseHeads:
    """The answers for a request of HTTP/1.``version`` whose client wants the connection to persist."""
    if not persistent:
        return CLOSES
    return STAYS if version else STAYS_AS_ASKED
