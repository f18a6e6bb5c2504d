"""The parsers of single configuration values, and the writers.

A parser takes a value as ``tomllib`` returns it, and returns it in the form that the program uses. It
raises ValueError, with the value and what was expected. A writer returns the value that its parser takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from re import Pattern as RegularExpression
from typing import Any, Final
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
from gateway.configuration.values import (
    APPLICATION_NAME,
    CONGESTION_CONTROL_NAME,
    COOKIE_NAME,
    DOMAIN_PATTERN,
    HOST_NAME,
    HOST_PATTERN,
    LATENCIES,
    LONGEST_HOLD_S,
    MOST_PORT,
    MOST_WORKERS,
    NAME_PATTERN,
    NODE_NAME,
    ORIGIN,
    PUBLIC_PORT,
    UPSTREAM_NAME,
    UPSTREAM_REFERENCE,
    AbsolutePath,
    Application,
    CongestionControl,
    CookieName,
    DatagramAddress,
    DatagramServer,
    DomainPattern,
    Host,
    HostPattern,
    HttpUrl,
    IPAddress,
    Latency,
    NodeAddress,
    NodeId,
    Pattern,
    PeerAddress,
    Port,
    PublicPort,
    ServerName,
    Template,
    UpstreamName,
    UpstreamReference,
    WebOrigin,
    WebServerAddress,
    WorkerCount,
)
from gateway.protocols.templates import check as check_template

_PORTS_OF_SCHEMES: Final = {"http": "80", "https": "443"}


def _text(
    pattern: RegularExpression[str], expected: str, convert: Callable[[str], str] = str
) -> Callable[[object], str]:
    """The parser of text that matches ``pattern`` as a whole."""

    def parse(value: object) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return convert(value)
        raise ValueError(f"{quoted(value)}: expected {expected}")

    return parse


def _parse_latency(value: Any) -> Latency:
    """A name of ``LATENCIES``, or a number of seconds."""
    if isinstance(value, str) and value in LATENCIES:
        return LATENCIES[value]
    if type(value) in (int, float) and 0 <= value <= LONGEST_HOLD_S:  # not a bool, which is an int
        return Latency(float(value))
    names = ", ".join(map(quoted, LATENCIES))
    raise ValueError(f"{quoted(value)}: expected {names}, or 0 to {LONGEST_HOLD_S:g} seconds")


def _parse_path(value: object) -> AbsolutePath:
    """An absolute path. It must be printable, since it becomes part of error messages."""
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return AbsolutePath(value)
    raise ValueError(f'{quoted(value)}: expected an absolute path, such as "/etc/..."')


def _parse_http_url(value: object) -> HttpUrl:
    """An http or https URL with a host, and without a user."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value:
        with suppress(ValueError):
            parts = urlsplit(value)
            is_server = parts.hostname and parts.username is None and parts.port != 0
            if parts.scheme in ("http", "https") and is_server:
                return HttpUrl(value)
    raise ValueError(f'{quoted(value)}: expected a URL, such as "http://127.0.0.1:8000/publish"')


def _parse_public_port(value: object) -> PublicPort:
    """A scheme and a port."""
    match = PUBLIC_PORT.fullmatch(value) if isinstance(value, str) else None
    if match is not None and int(match[1]) <= MOST_PORT:
        return PublicPort(match[0])
    raise ValueError(f'{quoted(value)}: expected "http:PORT" or "https:PORT", such as "https:443"')


def _parse_ip_address(value: object) -> IPAddress:
    """An IPv4 or IPv6 address, without a port."""
    if isinstance(value, str) and (is_ipv4(value) or is_ipv6(value)):
        return IPAddress(value)
    raise ValueError(f'{quoted(value)}: expected an IP address without a port, such as "10.0.0.5"')


def _parse_server_name(value: object) -> ServerName:
    """A host name or an IP address, as a server's certificate has it."""
    if isinstance(value, str) and (is_host(value) or is_ipv6(value)):
        return ServerName(value)
    raise ValueError(
        f'{quoted(value)}: expected a host name or IP address without a port, such as "media.example.org"'
    )


def _parse_origin(value: object) -> WebOrigin:
    """An origin of ``ORIGIN``. Browsers send it in lower case, and without the scheme's own port."""
    match = ORIGIN.fullmatch(value.lower()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{quoted(value)}: expected the scheme and host of pages, without a path, such as"
            ' "https://www.example.org", or "*" for all'
        )
    origin, port = match[0], match["port"]
    if port is not None and port == _PORTS_OF_SCHEMES.get(match["scheme"]):
        origin = origin.removesuffix(f":{port}")
    return WebOrigin(origin)


def _parse_template(value: object) -> Template:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f'{quoted(value)}: expected text, such as "rtmp://{{server}}/{{app}}"')
    try:
        check_template(value)
    except ValueError as error:
        raise ValueError(f"{quoted(value)}: {error}") from None
    return Template(value)


def _parse_ip_and_port(value: object) -> TcpAddress:
    address = parse_listen_address(value)
    if isinstance(address, TcpAddress):
        return address
    raise ValueError(f'{quoted(value)}: expected "IPV4:PORT" or "[IPV6]:PORT"')


def _parse_port(value: object) -> Port:
    if type(value) is int and 1 <= value <= MOST_PORT:  # not a bool, which is an int
        return Port(value)
    raise ValueError(f"{quoted(value)}: expected a port from 1 to {MOST_PORT}")


def _parse_worker_count(value: object) -> WorkerCount:
    """A number, or "auto" for one a core."""
    if value == "auto":
        return WorkerCount(0)
    if type(value) is int and 1 <= value <= MOST_WORKERS:  # not a bool, which is an int
        return WorkerCount(value)
    raise ValueError(f'{quoted(value)}: expected 1 to {MOST_WORKERS}, or "auto" for one a core')


PARSERS: Final[Mapping[Any, Callable[[Any], object]]] = {
    ListenAddress: parse_listen_address,
    ServerAddress: parse_server,
    WebServerAddress: parse_website,
    NodeAddress: _parse_ip_and_port,
    PeerAddress: parse_peer,
    DatagramAddress: _parse_ip_and_port,
    DatagramServer: parse_datagram_server,
    Network: parse_network,
    AbsolutePath: _parse_path,
    Host: _text(HOST_NAME, 'a host name without a port, such as "admin.example.org"', str.lower),
    HttpUrl: _parse_http_url,
    Application: _text(APPLICATION_NAME, 'the name of an application, such as "live2"'),
    Pattern: _text(NAME_PATTERN, 'a name or a pattern, such as "live" or "cam*"'),
    PublicPort: _parse_public_port,
    IPAddress: _parse_ip_address,
    ServerName: _parse_server_name,
    HostPattern: _text(
        HOST_PATTERN,
        'a host name without a port, such as "a.example.org" or "*.example.org"',
        str.lower,
    ),
    DomainPattern: _text(
        DOMAIN_PATTERN,
        'a host name without a port, such as "www.example.org" or "*.example.org", or "*" for all',
        str.lower,
    ),
    WebOrigin: _parse_origin,
    CookieName: _text(COOKIE_NAME, 'at most 64 letters, digits, "-" and "_", such as "NODE"'),
    Port: _parse_port,
    Latency: _parse_latency,
    # Only the kernel knows which exist.
    CongestionControl: _text(CONGESTION_CONTROL_NAME, 'a name, such as "bbr" or "cubic"'),
    NodeId: _text(NODE_NAME, 'two characters of 0-9 and a-z in quotes, such as "00"'),
    UpstreamName: _text(
        UPSTREAM_NAME,
        'at most 32 letters, digits, "-" and "_", beginning with a letter, such as "live"',
    ),
    UpstreamReference: _text(
        UPSTREAM_REFERENCE, 'the name of an upstream, or its number, such as "1"'
    ),
    Template: _parse_template,
    WorkerCount: _parse_worker_count,
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
