"""Cross-origin requests of browsers: who may read the answers (Fetch standard, "CORS protocol").

A browser sends ``Origin``, and lets a script read an answer that allows it. Before a request with a field
such as ``Content-Type: application/x-fcs`` it asks by OPTIONS, the preflight. Rules:

- Clients other than browsers send no ``Origin``, and their answers have no further fields.
- An allowed origin is repeated in the answer, which then varies by origin; ``*`` allows all in the same
  words, and never with credentials.
- A preflight may also ask for a private network (Private Network Access), which ``*`` does not allow.
"""

from __future__ import annotations

from typing import Final, final

from gateway.protocols.fields import Items, values

ALL: Final = "*"
# How long browsers may keep the answer to a preflight; Chromium keeps none for more than two hours.
_PREFLIGHT_S: Final = 7200
# What clients of the tunnel send and read beside the fields that are always allowed (``tunnel_options``).
_REQUEST_FIELDS: Final = b"Content-Type, RTMPT-Options"
_ANSWER_FIELDS: Final = b"RTMPT-Options"
_PRIVATE_NETWORK: Final = b"access-control-request-private-network"


@final
class CrossOrigin:
    """``origins``: those allowed, as browsers send them, or ``*`` alone.

    ``credentials``: whether requests of named origins may have cookies, and store them.
    """

    def __init__(self, origins: tuple[str, ...], credentials: bool = False) -> None:
        self._allows_all = ALL in origins
        self._origins = frozenset(each.encode("ascii") for each in origins)
        self._credentials = credentials and not self._allows_all

    def origin_of(self, items: Items) -> bytes:
        """The allowed origin of a request with these fields, ``*`` for any; b"" for another or none."""
        origins = values(items, b"origin")
        if len(origins) != 1:
            return b""
        if self._allows_all:
            return ALL.encode()
        return origins[0] if origins[0] in self._origins else b""

    def of_answer(self, origin: bytes) -> bytes:
        """The field lines of an answer to a request of this allowed origin."""
        return self._allowing(origin) + b"Access-Control-Expose-Headers: %b\r\n" % _ANSWER_FIELDS

    def of_preflight(self, items: Items) -> bytes:
        """The field lines of the answer to a preflight with these fields; b"" if it is refused."""
        origin = self.origin_of(items)
        if not origin:
            return b""
        lines = self._allowing(origin) + (
            b"Access-Control-Allow-Methods: POST\r\n"
            b"Access-Control-Allow-Headers: %b\r\n"
            b"Access-Control-Max-Age: %d\r\n" % (_REQUEST_FIELDS, _PREFLIGHT_S)
        )
        if not self._allows_all and values(items, _PRIVATE_NETWORK) == [b"true"]:
            lines += b"Access-Control-Allow-Private-Network: true\r\n"
        return lines

    def _allowing(self, origin: bytes) -> bytes:
        lines = b"Access-Control-Allow-Origin: %b\r\n" % origin
        if not self._allows_all:
            lines += b"Vary: Origin\r\n"
        if self._credentials:
            lines += b"Access-Control-Allow-Credentials: true\r\n"
        return lines
