"""The resources of the port test, by the targets of their requests. All are under ``/port-test``.

    GET   /port-test              the page
    GET   /port-test/ping         a small answer at once
    GET   /port-test/hold/N       the same after N seconds, one of ``HOLDS_S``: a long poll
    GET   /port-test/pieces       a chunked answer of ``PIECES`` pieces, one every ``PIECE_S``
    POST  /port-test/upload       the answer has the size of the body and its CRC-32
    POST  /port-test/open/1, send, idle and close, as in RTMPT: a tunnel to the loopback
    OPTIONS of each               CORS

The last four are the tunnel commands of PROTOCOL.md with a prefix. The query is ignored: it can make a
target unique. Nothing that a client sends is used as an address.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

from gateway.errors import MethodNotAllowed, NotFound
from gateway.protocols.commands import Command, Kind, command_of, path_of

PREFIX: Final = b"/port-test"
# Proxies cut requests without an answer after 1 to 60 s. The longest one decides how long the page takes.
HOLDS_S: Final = (1, 5, 15)
PIECES: Final = 6
# Longer than the segments of one answer are apart, and than a proxy waits to join small writes.
PIECE_S: Final = 0.3
# Browsers and proxies deliver the first bytes of an answer sooner if there are some hundreds of them.
PIECE_BYTES: Final = 512
UPLOAD_BYTES: Final = 256 * 1024
# The body of a send of the tester; the page's are smaller.
SEND_BYTES: Final = 64 * 1024
# The answer to ping and hold, by which the page knows the gateway from other servers.
PONG: Final = b"rtmpt-gateway port test\n"


class Name(Enum):
    """The name of a resource; the value is its label in metrics."""

    PAGE = "page"
    PING = "ping"
    HOLD = "hold"
    PIECES = "pieces"
    UPLOAD = "upload"
    TUNNEL = "tunnel"


@frozen
class Resource:
    """What a request asks for. ``hold_s``: of a hold. ``command``: of a tunnel."""

    name: Name
    hold_s: float = 0.0
    command: Command | None = None

    @property
    def method(self) -> bytes:
        """The method of its requests, beside OPTIONS."""
        return b"POST" if self.name in (Name.UPLOAD, Name.TUNNEL) else b"GET"

    @property
    def body_bytes(self) -> int:
        """The largest body of a request."""
        return _BODIES.get(self.name, 0)


_BODIES: Final = {Name.UPLOAD: UPLOAD_BYTES, Name.TUNNEL: SEND_BYTES + 1024}
_FIXED: Final = {
    b"": Resource(Name.PAGE),
    b"/": Resource(Name.PAGE),
    b"/ping": Resource(Name.PING),
    b"/pieces": Resource(Name.PIECES),
    b"/upload": Resource(Name.UPLOAD),
    **{b"/hold/%d" % seconds: Resource(Name.HOLD, float(seconds)) for seconds in HOLDS_S},
}


def is_of_port_test(target: bytes) -> bool:
    """Whether a request with this target is for the port test, even if it asks for nothing known."""
    rest = _rest(target)
    return rest is not None and rest[:1] in (b"", b"/", b"?")


def resource_of(method: bytes, target: bytes) -> Resource:
    """The resource of a target for which ``is_of_port_test``. Raises NotFound, MethodNotAllowed."""
    rest = (_rest(target) or b"").partition(b"?")[0]
    resource = _FIXED.get(rest)
    if resource is None:
        command = command_of(b"POST", rest)
        if command is None or command[0] is Kind.IDENT:
            raise NotFound("no resource of the port test")
        resource = Resource(Name.TUNNEL, command=command)
    if method not in (resource.method, b"OPTIONS"):
        raise MethodNotAllowed("another method than that of the resource")
    return resource


def _rest(target: bytes) -> bytes | None:
    if target[:1] != b"/":
        target = path_of(target)
    return target[len(PREFIX) :] if target.startswith(PREFIX) else None
