"""The answers of the port test: heads with the fields that its resources need, and small bodies.

Answers of tunnels have the fields that the gateway's own have (``listeners/response_heads``), and pieces
those of its streamed answers, so that proxies treat both as they treat the real ones.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from attrs import frozen

from gateway.protocols.port_test.origins import PREFLIGHT
from gateway.protocols.port_test.resources import PIECE_BYTES, PIECES

TUNNEL: Final = b"Content-Type: application/x-fcs\r\nCache-Control: no-cache\r\n"
SMALL: Final = (
    b"Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
)
_PIECES: Final = (
    b"Content-Type: application/x-fcs\r\nCache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n"
)
_ALLOW: Final = b"Allow: GET, POST, OPTIONS\r\n"


@frozen
class Heads:
    """Writer of heads for one request. ``sharing``: field lines of CORS, or empty. ``closes``: whether the
    connection is closed after the answer.
    """

    version: int
    sharing: bytes = b""
    closes: bool = False

    def whole(self, fields: bytes, body: bytes) -> bytes:
        """The answer 200 with this body."""
        return self._head(200, b"%bContent-Length: %d\r\n" % (fields, len(body))) + body

    def preflight(self) -> bytes:
        """The answer to OPTIONS."""
        return self._head(204, _ALLOW + PREFLIGHT)

    def refusal(self, status: int) -> bytes:
        return self._head(status, b"Cache-Control: no-store\r\nContent-Length: 0\r\n")

    def pieces(self) -> bytes:
        """The head of the answer in pieces: chunked, or as long as the connection for HTTP/1.0."""
        return self._head(
            200, _PIECES + (b"Transfer-Encoding: chunked\r\n" if self.version else b"")
        )

    def piece(self, number: int) -> bytes:
        """The piece with this number, from 0 on; the last one ends the answer."""
        text = b"%d\n" % number
        body = text.rjust(PIECE_BYTES, b".")
        if not self.version:
            return body
        end = b"0\r\n\r\n" if number == PIECES - 1 else b""
        return b"%x\r\n%b\r\n%b" % (len(body), body, end)

    def _head(self, status: int, fields: bytes) -> bytes:
        connection = b"Connection: close\r\n" if self.closes else b""
        if not self.closes and not self.version:
            connection = b"Connection: keep-alive\r\n"
        phrase = HTTPStatus(status).phrase.encode()
        return b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (status, phrase, connection, self.sharing, fields)


def upload_body(size: int, checksum: int) -> bytes:
    """The answer to an upload: its size and its CRC-32, as JSON."""
    return json.dumps({"bytes": size, "crc32": checksum}).encode() + b"\n"
