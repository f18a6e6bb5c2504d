"""Types of single configuration values, and their patterns, limits and defaults.

value_parsers.py has their parsers. Types without one, such as numbers and literals, are validated by
structuring.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NewType, get_args

from gateway.addresses import ServerAddress, TcpAddress

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
# The name of one application.
Application = NewType("Application", str)
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
# The ports on which Flash Player tries RTMP.
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
# At most TCP_CA_NAME_MAX (the kernel's include/net/tcp.h).
CONGESTION_CONTROL_NAME: Final = re.compile(r"[a-z0-9_-]{1,15}")
NODE_NAME: Final = re.compile(r"[0-9a-z]{2}")
# An upstream without a name has its number, so a name cannot begin with a digit.
UPSTREAM_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
PUBLIC_PORT: Final = re.compile(r"https?:([1-9][0-9]{0,4})")
UPSTREAM_REFERENCE: Final = re.compile(rf"{UPSTREAM_NAME.pattern}|[1-9][0-9]{{0,2}}")


def not_empty(_: object, __: object, values: tuple[object, ...]) -> None:
    """A validator of attrs."""
    if not values:
        raise ValueError("empty; list at least one")
