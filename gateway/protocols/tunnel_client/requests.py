"""The HTTP requests of one RTMPT session (PROTOCOL.md, The exchange)."""

from __future__ import annotations

from typing import Final, final

from gateway.protocols import tunnel_options
from gateway.protocols.commands import Kind

# The User-Agent of a gateway that is the client of another server.
AGENT: Final = "rtmpt-gateway"
# The product in the User-Agent of the tunnel client, which carries the stream of another program.
CLIENT_PRODUCT: Final = "rtmpt-client"
# The bodies of open, idle and close.
ONE_BYTE: Final = b"\x00"
# The names of an open request's fields, in their order; the address of the client is optional. A proxy
# removes or rewrites ``Connection``, or adds fields, so that a server recognises it.
FIELDS: Final = (
    *(b"host", b"connection", b"user-agent", b"content-type", b"x-forwarded-for"),
    *(tunnel_options.FIELD, b"content-length"),
)
PERSISTENT: Final = b"keep-alive"


@final
class Requests:
    """``host``: the value of the Host field. ``client``: the IP address of the client, or empty.

    ``agent``: the value of the User-Agent field. With ``absolute``, targets are URLs, for a proxy that
    forwards the requests (RFC 9112, 3.2.2).
    """

    __slots__ = ("_forwarded", "_origin", "_rest", "_starts")

    def __init__(
        self, host: str, client: str = "", agent: str = AGENT, absolute: bool = False
    ) -> None:
        self._origin = b"http://%b" % host.encode("ascii") if absolute else b""
        # By the kinds' values: a hash of a member of an Enum costs as much as the rest of a head.
        self._starts = {
            each.value: b"POST %b/%b/" % (self._origin, each.value.encode()) for each in Kind
        }
        self._rest = (
            b" HTTP/1.1\r\nHost: %b\r\nConnection: %b\r\nUser-Agent: %b\r\n"
            b"Content-Type: application/x-fcs\r\n"
            % (host.encode("ascii"), PERSISTENT, agent.encode("ascii"))
        )
        self._forwarded = b"X-Forwarded-For: %b\r\n" % client.encode("ascii") if client else b""

    def open(self) -> bytes:
        """The request that opens a session."""
        fields = (self._rest, self._forwarded, tunnel_options.REQUEST)
        return b"POST %b/open/1%bContent-Length: 1\r\n\r\n%b" % (
            *(self._origin, b"".join(fields)),
            ONE_BYTE,
        )

    def head(self, kind: Kind, session_id: bytes, number: int, body_bytes: int) -> bytes:
        """The head of a send, an idle or a close, whose body follows."""
        return b"%b%b/%d%bContent-Length: %d\r\n\r\n" % (
            *(self._starts[kind._value_], session_id, number),
            *(self._rest, body_bytes),
        )

    def close_at_once(self, session_id: bytes) -> bytes:
        """A close without a number, which takes effect before all commands that have not arrived yet."""
        return b"POST %b/close/%b%bContent-Length: 1\r\n\r\n%b" % (
            *(self._origin, session_id),
            *(self._rest, ONE_BYTE),
        )
