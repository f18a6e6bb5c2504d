"""PROXY protocol headers that tell a server the address of the client: versions 1 and 2; for datagrams 2.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
# Version 2, and the command: LOCAL or PROXY.
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TCP_OVER: Final = {4: 0x11, 6: 0x21}
_UDP_OVER: Final = {4: 0x12, 6: 0x22}
_V2_HEAD: Final = Struct("!12sBBH")
_PORTS: Final = Struct("!HH")


def proxy_header(version: int, client: str, server: str, server_port: int) -> bytes:
    """The header in front of a connection to ``server``, an IP address, for the client at ``client``.

    ``client`` is an IP address, or empty if it is not known. Its port is 0: a session of RTMPT has many
    connections. If the server's address is of the other family, it is the unspecified address.
    """
    # Without the zone of a link-local address, which means nothing to the server.
    found = ip_address(client.partition("%")[0]) if client else None
    if version == 1:
        return _version_1(found, server, server_port)
    return _version_2(found, server, server_port)


def datagram_header(client: tuple[str, int], listener: tuple[str, int]) -> bytes:
    """The header of version 2 in front of a datagram that ``client`` has sent to ``listener``, each an IP
    address and a port. Both addresses are of one family.
    """
    source, destination = (ip_address(host.partition("%")[0]) for host, _ in (client, listener))
    addresses = source.packed + destination.packed + _PORTS.pack(client[1], listener[1])
    family = _UDP_OVER[source.version]
    return _V2_HEAD.pack(_SIGNATURE, _PROXY, family, len(addresses)) + addresses


def _version_1(client: IPv4Address | IPv6Address | None, server: str, port: int) -> bytes:
    if client is None:
        return b"PROXY UNKNOWN\r\n"
    return f"PROXY TCP{client.version} {client} {_like(client, server)} 0 {port}\r\n".encode()


def _version_2(client: IPv4Address | IPv6Address | None, server: str, port: int) -> bytes:
    if client is None:
        return _V2_HEAD.pack(_SIGNATURE, _LOCAL, 0, 0)
    addresses = client.packed + _like(client, server).packed + _PORTS.pack(0, port)
    family = _TCP_OVER[client.version]
    return _V2_HEAD.pack(_SIGNATURE, _PROXY, family, len(addresses)) + addresses


def _like(client: IPv4Address | IPv6Address, server: str) -> IPv4Address | IPv6Address:
    """The server's address in the client's family."""
    found = ip_address(server)
    return found if found.version == client.version else type(client)(0)
