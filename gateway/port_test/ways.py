"""Ways of RTMP to a server: a protocol and a port; routes; and the target of a test.

A target is written ``HOST[/APP[/STREAM]]``. The application ends at the first slash, as FFmpeg divides a
URL; everything behind it is the stream. Parsers raise ValueError with the value and what was expected.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import field, frozen

from gateway.addresses import is_host, is_ipv6, parse_plain_server, quoted, refuse_bare_ipv6


class Protocol(Enum):
    """The value is the scheme of URLs."""

    RTMP = "rtmp"
    RTMPS = "rtmps"
    RTMPT = "rtmpt"
    RTMPTS = "rtmpts"

    @property
    def secure(self) -> bool:
        """Whether TLS is around it."""
        return self in (Protocol.RTMPS, Protocol.RTMPTS)

    @property
    def tunnelled(self) -> bool:
        """Whether RTMP is inside HTTP requests."""
        return self in (Protocol.RTMPT, Protocol.RTMPTS)


# The port of a URL without one, in FFmpeg, librtmp and Flash Player.
DEFAULT_PORTS: Final = {
    Protocol.RTMP: 1935,
    Protocol.RTMPS: 443,
    Protocol.RTMPT: 80,
    Protocol.RTMPTS: 443,
}


class Route(Enum):
    """How a way leaves: by IPv4 or IPv6 past all proxies, or through the HTTP proxy."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"
    PROXY = "proxy"


@frozen
class Way:
    """A protocol on a port of the server."""

    protocol: Protocol
    port: int

    @property
    def proxied(self) -> bool:
        """Whether programs send it through HTTP proxies: all but plain RTMP."""
        return self.protocol is not Protocol.RTMP

    def __str__(self) -> str:
        return f"{self.protocol.value}:{self.port}"


# The ports on which Flash Player and encoders try each protocol, and 8080, which many networks permit.
DEFAULT_WAYS: Final = (
    *(Way(Protocol.RTMP, port) for port in (1935, 443, 80)),
    *(Way(Protocol.RTMPT, port) for port in (80, 443, 8080)),
    Way(Protocol.RTMPS, 443),
    Way(Protocol.RTMPTS, 443),
)
# Each way is tried by up to three routes at once. More would look like a port scan to a firewall.
MOST_WAYS: Final = 32


@frozen
class Target:
    """The server, and what is asked of it. ``stream`` may be secret, and is not in the representation."""

    host: str
    application: str = ""
    stream: str = field(default="", repr=False)

    def url(self, way: Way) -> str:
        """The URL of the application, or of the server, on this way."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if way.port == DEFAULT_PORTS[way.protocol] else f":{way.port}"
        return f"{way.protocol.value}://{host}{port}/{self.application}"

    def authority(self, port: int) -> str:
        """Host and port, as in CONNECT requests."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


def parse_target(text: str) -> Target:
    """Parse a target. Raises ValueError."""
    scheme, separator, _ = text.partition("://")
    if separator:
        raise ValueError(f"{quoted(text)}: leave out {quoted(scheme + separator)}")
    host, _, path = text.partition("/")
    name, _, _ = host.partition(":")
    is_written_well = is_ipv6(host[1:].partition("]")[0]) if host[:1] == "[" else is_host(name)
    if not is_written_well:
        refuse_bare_ipv6(host, host)
        raise ValueError(f'{quoted(host)}: expected a host name, an IPv4 address or "[IPV6]"')
    server = parse_plain_server(host, 0xFFFF)
    if str(server) != f"{host}:65535":
        raise ValueError(f"{quoted(text)}: give ports by --way, such as --way rtmp:{server.port}")
    application, _, stream = path.partition("/")
    if stream and not application:
        raise ValueError(f"{quoted(text)}: expected HOST/APP/STREAM")
    return Target(server.host, application, stream)


def parse_way(text: str) -> Way:
    """Parse ``PROTOCOL`` or ``PROTOCOL:PORT``. Raises ValueError."""
    name, colon, digits = text.partition(":")
    try:
        protocol = Protocol(name)
    except ValueError:
        names = ", ".join(each.value for each in Protocol)
        raise ValueError(f"{quoted(text)}: expected one of {names}, and :PORT if needed") from None
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
    if colon and not 0 < port <= 0xFFFF:
        raise ValueError(f"{quoted(text)}: expected a port from 1 to 65535")
    return Way(protocol, port if colon else DEFAULT_PORTS[protocol])
