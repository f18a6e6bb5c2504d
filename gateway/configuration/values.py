"""Types of single configuration values, the parsers that validate them, and the writers.

A parser takes a value as ``tomllib`` returns it, and returns it in the form that the program uses. It
raises ValueError, with the value and what was expected. Types that have no parser here, such as numbers and
literals, are validated by structuring.py. A writer returns the value that its parser takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, NewType, get_args
from urllib.parse import urlsplit

from gateway.addresses import (
    ListenAddress,
    Network,
    ServerAddress,
    TcpAddress,
    is_host,
    is_ipv4,
    is_ipv6,
    parse_datagram_server,
    parse_listen_address,
    parse_network,
    parse_peer,
    parse_server,
    parse_website,
    quoted,
)
from gateway.protocols.templates import check as check_template

# Seconds that an idle's answer is held, for a name or a number. 0 disables holding.
Latency = NewType("Latency", float)
# A path from the root: twistd chooses the working directory.
AbsolutePath = NewType("AbsolutePath", str)
# A host name or IP address as in the Host header, lower case, without a port.
Host = NewType("Host", str)
# An IP address, without brackets.
IPAddress = NewType("IPAddress", str)
# A server's host name or IP address, without brackets.
ServerName = NewType("ServerName", str)
# The website's server: its default port is 80.
WebServerAddress = NewType("WebServerAddress", ServerAddress)
# Where other nodes connect: no UNIX socket, and none of systemd's.
NodeAddress = NewType("NodeAddress", TcpAddress)
# Another node's address: its default port is 1936.
PeerAddress = NewType("PeerAddress", ServerAddress)
# Where datagrams are received: no UNIX socket, and none of systemd's.
DatagramAddress = NewType("DatagramAddress", TcpAddress)
# The server that datagrams are relayed to: its default port is 1935.
DatagramServer = NewType("DatagramServer", ServerAddress)
# The name of a congestion control algorithm of the kernel.
CongestionControl = NewType("CongestionControl", str)
# The first two characters of every session id.
NodeId = NewType("NodeId", str)
# The name of an upstream, by which routes select it.
UpstreamName = NewType("UpstreamName", str)
# The name of an upstream, or the number of one without a name.
UpstreamReference = NewType("UpstreamReference", str)
# A host name, or "*." and the end of one, or "*" for all, lower case.
DomainPattern = NewType("DomainPattern", str)
# A host name, or "*." and the end of one, lower case.
HostPattern = NewType("HostPattern", str)
# Text with names in braces (protocols/templates.py).
Template = NewType("Template", str)
# The number of worker processes; 0 for one a core.
WorkerCount = NewType("WorkerCount", int)
# An http or https URL, without user and password.
HttpUrl = NewType("HttpUrl", str)
# A public port of the gateway, as "http:80" or "https:443".
PublicPort = NewType("PublicPort", str)
# An origin as browsers send it, or "*" for all.
WebOrigin = NewType("WebOrigin", str)
# The number of a TCP port.
Port = NewType("Port", int)
# The name of a cookie.
CookieName = NewType("CookieName", str)
# A pattern for the names of applications or streams, with the wildcards *, ? and [...].
Pattern = NewType("Pattern", str)
# The application at a mirror.
MirrorApplication = NewType("MirrorApplication", str)
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warn", "error", "critical"]
StreamAction = Literal["publish", "play"]
AccessAction = Literal["connect", "publish", "play", "all"]
CallbackMethod = Literal["post", "get"]
CallbackFailure = Literal["deny", "allow"]
SecondPublisher = Literal["refuse", "replace"]
Choice = Literal["first", "round_robin", "fewest_sessions", "hash"]
HashBy = Literal["application", "stream"]
ProxyProtocol = Literal["off", "v1", "v2"]
DatagramProxyProtocol = Literal["off", "v2"]
RTMPE = Literal["opaque", "terminate"]
HealthCheck = Literal["auto", "off", "tcp", "rtmp"]

# The system's own.
DEFAULT_CONGESTION_CONTROL: Final = CongestionControl("")
ANY_NAME: Final = Pattern("*")
DEFAULT_NODE: Final = NodeId("00")
# Those on which Flash Player tries RTMP.
DEFAULT_SOCKET_PORTS: Final = (Port(80), Port(443), Port(1935))
ONE_WORKER_A_CORE: Final = WorkerCount(0)
MOST_PORT: Final = 0xFFFF
# Two generations of them must fit into the shared memory.
MOST_WORKERS: Final = 32
# Those of several generations of workers must fit into the shared memory.
MOST_SERVERS: Final = 256
# The page of the port test tests all of them at once.
MOST_PUBLIC_PORTS: Final = 16
LOG_LEVELS: Final[tuple[str, ...]] = get_args(LogLevel)
# PROTOCOL.md, Held idle: how long Flash Media Server holds an idle with its settings of these names.
LATENCIES: Final[Mapping[str, Latency]] = {
    "low": Latency(0.25),
    "medium": Latency(0.5),
    "high": Latency(2.0),
}
# RootEncoder abandons a request after 5 s; it would take a gateway with longer holds for a dead one.
LONGEST_HOLD_S: Final = 4.0
APPLICATION_NAME: Final = re.compile(r"[A-Za-z0-9_.~%-]+(/[A-Za-z0-9_.~%-]+)*")
# Names are compared without slashes at their ends.
NAME_PATTERN: Final = re.compile(r"[^\x00-\x20\x7f/]([^\x00-\x20\x7f]{0,254}[^\x00-\x20\x7f/])?")
HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")
HOST_PATTERN: Final = re.compile(rf"(?:\*\.)?(?:{HOST_NAME.pattern})")
# A domain of pages, as Flash's policy files have it.
DOMAIN_PATTERN: Final = re.compile(rf"\*|{HOST_PATTERN.pattern}")
# The scheme, the host, and a port that is not the scheme's own (RFC 6454, 6.2).
ORIGIN: Final = re.compile(
    rf"\*|(?P<scheme>[a-z][a-z0-9+.-]*)://(?:{HOST_NAME.pattern})(?::(?P<port>[0-9]{{1,5}}))?"
)
COOKIE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OWN_PORTS: Final = {"http": "80", "https": "443"}
# At most TCP_CA_NAME_MAX (the kernel's include/net/tcp.h).
CONGESTION_CONTROL_NAME: Final = re.compile(r"[a-z0-9_-]{1,15}")
NODE_NAME: Final = re.compile(r"[0-9a-z]{2}")
# An upstream without a name has its number, so a name cannot begin with a digit.
UPSTREAM_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
PUBLIC_PORT: Final = re.compile(r"https?:([1-9][0-9]{0,4})")
UPSTREAM_REFERENCE: Final = re.compile(rf"{UPSTREAM_NAME.pattern}|[1-9][0-9]{{0,2}}")


def parse_latency(value: Any) -> Latency:
    """A name of ``LATENCIES``, or a number of seconds."""
    if isinstance(value, str) and value in LATENCIES:
        return LATENCIES[value]
    if type(value) in (int, float) and 0 <= value <= LONGEST_HOLD_S:  # not a bool, which is an int
        return Latency(float(value))
    names = ", ".join(map(quoted, LATENCIES))
    raise ValueError(f"{quoted(value)}: expected {names}, or 0 to {LONGEST_HOLD_S:g} seconds")


def parse_path(value: object) -> AbsolutePath:
    """An absolute path. It must be printable, since it becomes part of error messages."""
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return AbsolutePath(value)
    raise ValueError(f'{quoted(value)}: expected an absolute path, such as "/etc/..."')


def parse_http_url(value: object) -> HttpUrl:
    """An http or https URL with a host, and without a user."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value:
        with suppress(ValueError):
            parts = urlsplit(value)
            is_server = parts.hostname and parts.username is None and parts.port != 0
            if parts.scheme in ("http", "https") and is_server:
                return HttpUrl(value)
    raise ValueError(f'{quoted(value)}: expected a URL, such as "http://127.0.0.1:8000/publish"')


def parse_public_port(value: object) -> PublicPort:
    """A scheme and a port."""
    match = PUBLIC_PORT.fullmatch(value) if isinstance(value, str) else None
    if match is not None and int(match[1]) <= MOST_PORT:
        return PublicPort(match[0])
    raise ValueError(f'{quoted(value)}: expected "http:PORT" or "https:PORT", such as "https:443"')


def parse_application(value: object) -> MirrorApplication:
    """A name of ``APPLICATION_NAME``."""
    if isinstance(value, str) and APPLICATION_NAME.fullmatch(value):
        return MirrorApplication(value)
    raise ValueError(f'{quoted(value)}: expected the name of an application, such as "live2"')


def parse_pattern(value: object) -> Pattern:
    """A pattern of ``NAME_PATTERN``."""
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return Pattern(value)
    raise ValueError(f'{quoted(value)}: expected a name or a pattern, such as "live" or "cam*"')


def parse_host(value: object) -> Host:
    """A host name, an IPv4 address, or an IPv6 address in brackets."""
    if isinstance(value, str) and HOST_NAME.fullmatch(value):
        return Host(value.lower())
    raise ValueError(
        f'{quoted(value)}: expected a host name without a port, such as "admin.example.org"'
    )


def parse_ip_address(value: object) -> IPAddress:
    """An IPv4 or IPv6 address, without a port."""
    if isinstance(value, str) and (is_ipv4(value) or is_ipv6(value)):
        return IPAddress(value)
    raise ValueError(f'{quoted(value)}: expected an IP address without a port, such as "10.0.0.5"')


def parse_server_name(value: object) -> ServerName:
    """A host name or an IP address, as a server's certificate has it."""
    if isinstance(value, str) and (is_host(value) or is_ipv6(value)):
        return ServerName(value)
    raise ValueError(
        f'{quoted(value)}: expected a host name or IP address without a port, such as "media.example.org"'
    )


def parse_host_pattern(value: object) -> HostPattern:
    """As ``parse_host``, or with ``*.`` in front for all names that end with the rest."""
    if isinstance(value, str) and HOST_PATTERN.fullmatch(value):
        return HostPattern(value.lower())
    raise ValueError(
        f'{quoted(value)}: expected a host name without a port, such as "a.example.org" or'
        ' "*.example.org"'
    )


def parse_domain_pattern(value: object) -> DomainPattern:
    """As ``parse_host_pattern``, or ``*`` for all."""
    if isinstance(value, str) and DOMAIN_PATTERN.fullmatch(value):
        return DomainPattern(value.lower())
    raise ValueError(
        f'{quoted(value)}: expected a host name without a port, such as "www.example.org" or'
        ' "*.example.org", or "*" for all'
    )


def parse_origin(value: object) -> WebOrigin:
    """An origin of ``ORIGIN``. Browsers send it in lower case, and without the scheme's own port."""
    match = ORIGIN.fullmatch(value.lower()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{quoted(value)}: expected the scheme and host of pages, without a path, such as"
            ' "https://www.example.org", or "*" for all'
        )
    origin, port = match[0], match["port"]
    if port is not None and port == _OWN_PORTS.get(match["scheme"]):
        origin = origin.removesuffix(f":{port}")
    return WebOrigin(origin)


def parse_cookie_name(value: object) -> CookieName:
    """A name of ``COOKIE_NAME``."""
    if isinstance(value, str) and COOKIE_NAME.fullmatch(value):
        return CookieName(value)
    raise ValueError(
        f'{quoted(value)}: expected at most 64 letters, digits, "-" and "_", such as "NODE"'
    )


def parse_congestion_control(value: object) -> CongestionControl:
    """A name of ``CONGESTION_CONTROL_NAME``. Only the kernel knows which exist."""
    if isinstance(value, str) and CONGESTION_CONTROL_NAME.fullmatch(value):
        return CongestionControl(value)
    raise ValueError(f'{quoted(value)}: expected a name, such as "bbr" or "cubic"')


def parse_node_id(value: object) -> NodeId:
    """Two lower-case letters or digits."""
    if isinstance(value, str) and NODE_NAME.fullmatch(value):
        return NodeId(value)
    raise ValueError(
        f'{quoted(value)}: expected two characters of 0-9 and a-z in quotes, such as "00"'
    )


def parse_upstream_name(value: object) -> UpstreamName:
    if isinstance(value, str) and UPSTREAM_NAME.fullmatch(value):
        return UpstreamName(value)
    raise ValueError(
        f'{quoted(value)}: expected at most 32 letters, digits, "-" and "_", beginning with a letter,'
        ' such as "live"'
    )


def parse_upstream_reference(value: object) -> UpstreamReference:
    if isinstance(value, str) and UPSTREAM_REFERENCE.fullmatch(value):
        return UpstreamReference(value)
    raise ValueError(
        f'{quoted(value)}: expected the name of an upstream, or its number, such as "1"'
    )


def parse_template(value: object) -> Template:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f'{quoted(value)}: expected text, such as "rtmp://{{server}}/{{app}}"')
    try:
        check_template(value)
    except ValueError as error:
        raise ValueError(f"{quoted(value)}: {error}") from None
    return Template(value)


def parse_node_address(value: object) -> NodeAddress:
    return NodeAddress(_parse_ip_and_port(value))


def parse_datagram_address(value: object) -> DatagramAddress:
    return DatagramAddress(_parse_ip_and_port(value))


def _parse_ip_and_port(value: object) -> TcpAddress:
    address = parse_listen_address(value)
    if isinstance(address, TcpAddress):
        return address
    raise ValueError(f'{quoted(value)}: expected "IPV4:PORT" or "[IPV6]:PORT"')


def parse_port(value: object) -> Port:
    if type(value) is int and 1 <= value <= MOST_PORT:  # not a bool, which is an int
        return Port(value)
    raise ValueError(f"{quoted(value)}: expected a port from 1 to {MOST_PORT}")


def parse_worker_count(value: object) -> WorkerCount:
    """A number, or "auto" for one a core."""
    if value == "auto":
        return WorkerCount(0)
    if type(value) is int and 1 <= value <= MOST_WORKERS:  # not a bool, which is an int
        return WorkerCount(value)
    raise ValueError(f'{quoted(value)}: expected 1 to {MOST_WORKERS}, or "auto" for one a core')


PARSERS: Final[Mapping[Any, Callable[[object], object]]] = {
    ListenAddress: parse_listen_address,
    ServerAddress: parse_server,
    WebServerAddress: parse_website,
    NodeAddress: parse_node_address,
    PeerAddress: parse_peer,
    DatagramAddress: parse_datagram_address,
    DatagramServer: parse_datagram_server,
    Network: parse_network,
    AbsolutePath: parse_path,
    Host: parse_host,
    HttpUrl: parse_http_url,
    MirrorApplication: parse_application,
    Pattern: parse_pattern,
    PublicPort: parse_public_port,
    IPAddress: parse_ip_address,
    ServerName: parse_server_name,
    HostPattern: parse_host_pattern,
    DomainPattern: parse_domain_pattern,
    WebOrigin: parse_origin,
    CookieName: parse_cookie_name,
    Port: parse_port,
    Latency: parse_latency,
    CongestionControl: parse_congestion_control,
    NodeId: parse_node_id,
    UpstreamName: parse_upstream_name,
    UpstreamReference: parse_upstream_reference,
    Template: parse_template,
    WorkerCount: parse_worker_count,
}

# None stands for a value that is not set. Types without a writer have the same form in the program.
WRITERS: Final[Mapping[Any, Callable[[Any], object]]] = {
    **dict.fromkeys(
        (
            *(ListenAddress, ServerAddress, WebServerAddress, NodeAddress, PeerAddress),
            *(DatagramAddress, DatagramServer, Network),
        ),
        str,
    ),
    CongestionControl: lambda name: name or None,
    WorkerCount: lambda count: count or "auto",
}


def not_empty(_: object, __: object, values: tuple[object, ...]) -> None:
    """A validator of attrs."""
    if not values:
        raise ValueError("empty; list at least one")
