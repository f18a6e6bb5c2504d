"""Detection of proxy loops: a configured server that is one of the gateway's own listeners.

Each session or request to such a server would create another one, without end. ``check`` is for the
configuration before the start, and resolves no host names. ``refuse_loop`` is for a server whose name has
been resolved. A wildcard listener accepts connections to every address of this machine; an address belongs
to this machine if a socket can be bound to it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.addresses import ListenAddress, ServerAddress, TcpAddress
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError

_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_LOCALHOST = ("localhost", "localhost.", "localhost.localdomain", "ip6-localhost")


def check(configuration: Config) -> None:
    """Raises ConfigurationError with one line for each server that is one of the gateway's listeners."""
    listeners = [listener.address for listener in configuration.listeners]
    of_udp = [udp.address for udp in configuration.udp]
    lines = [
        configuration.source.line(place, cause)
        for servers, addresses in (
            (_servers(configuration), listeners),
            (_datagram_servers(configuration), of_udp),
        )
        for place, server in servers
        if (cause := loop_cause(server, _literal_hosts(server.host), addresses))
    ]
    if lines:
        raise ConfigurationError("\n".join(lines))


def refuse_loop(
    server: ServerAddress, hosts: Iterable[str], listeners: Sequence[ListenAddress], role: str
) -> None:
    """Raises ConfigurationError if one of the server's addresses, ``hosts``, is that of a listener."""
    cause = loop_cause(server, hosts, listeners)
    if cause:
        raise ConfigurationError(f"{role} {cause}")


def loop_cause(
    server: ServerAddress, hosts: Iterable[str], listeners: Sequence[ListenAddress]
) -> str:
    """Why a server with the addresses ``hosts`` would cause a loop; "" if it would not."""
    for host in hosts:
        for listener in listeners:
            if isinstance(listener, TcpAddress) and _accepts(listener, host, server.port):
                return (
                    f'"{server}" is the gateway\'s own listener "{listener}": connections would loop;'
                    " name the server behind the gateway, with its own address or port"
                )
    return ""


def is_loopback(host: str) -> bool:
    """Whether connections to this IP address have a loopback address as their source."""
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _servers(configuration: Config) -> Iterator[tuple[tuple[str | int, ...], ServerAddress]]:
    for index, upstream in enumerate(configuration.upstreams):
        for item, server in enumerate(upstream.servers):
            yield ("upstream", index, "servers", item), server.address
    if configuration.website is not None:
        yield ("website", "server"), configuration.website.server


def _datagram_servers(
    configuration: Config,
) -> Iterator[tuple[tuple[str | int, ...], ServerAddress]]:
    for index, udp in enumerate(configuration.udp):
        yield ("udp", index, "server"), udp.server


def _literal_hosts(host: str) -> Sequence[str]:
    if host.lower() in _LOCALHOST:
        return tuple(_LOOPBACK.values())
    return (host,) if _address(host) is not None else ()


def _accepts(listener: TcpAddress, host: str, port: int) -> bool:
    """Whether ``listener`` accepts a connection to ``host`` and ``port``."""
    address = _address(host)
    if address is None or port != listener.port:
        return False
    if address.is_unspecified:
        # Linux connects to the loopback address instead.
        address = ip_address(_LOOPBACK[address.version])
    own = ip_address(listener.host)
    if own.version != address.version:
        return False
    return own == address or (own.is_unspecified and is_local(address))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is this machine's. The probe binds a port that the system chooses."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            place = socket.getaddrinfo(
                str(address), 0, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
            )
            probe.bind(place[0][4])
    except OSError:
        return False
    return True
