"""UDP sockets: those that listen, and the two of each flow.

A listening socket gets the first datagram of each client. The flow then has a separate socket at the same
local address, connected to the client, which the kernel prefers for all further datagrams as the better
match. So datagrams reach the process that has the flow, whichever process reads the listening socket.
SO_REUSEPORT permits several sockets at one address, all of the same user.

Each worker has a listening socket; the kernel selects one by a hash of the client's address and port. The
supervisor opens them, and keeps them open while workers are replaced.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct
from typing import Any, Final

from gateway.addresses import TcpAddress
from gateway.errors import ConfigurationError
from gateway.listeners.ports import cause_of
from gateway.protocols.udp_flows import Address

# As far as net.core.rmem_max permits: for the first datagrams of many clients, after a pause of the worker.
_LISTENING_BYTES: Final = 1024 * 1024
# ip(7) and linux/in.h; Python has no such constant.
_IP_PKTINFO: Final = 8
# struct in_pktinfo: index of the interface, local address, and destination in the header.
_PKTINFO: Final = Struct("=i4s4s")
# struct in6_pktinfo: destination, and index of the interface.
_PKTINFO6: Final = Struct("=16sI")
ANCILLARY_BYTES: Final = socket.CMSG_SPACE(max(_PKTINFO.size, _PKTINFO6.size))


def listen(address: TcpAddress) -> socket.socket:
    """A listening socket. Raises ConfigurationError."""
    listening = _reusable(_family(address.host))
    try:
        listening.bind((address.host, address.port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(f'"{address}": {cause_of(address, error)}') from None
    _report_destinations(listening)
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LISTENING_BYTES)
    return listening


def adopt(descriptor: int) -> socket.socket:
    """A listening socket that another process has opened. The descriptor must not be used any more: while
    one is open, the kernel selects the socket for clients.
    """
    adopted = socket.socket(fileno=descriptor)
    adopted.set_inheritable(False)
    adopted.setblocking(False)
    return adopted


def address_of(listening: socket.socket) -> TcpAddress:
    """The address of a listening socket, with the port that the system has chosen for 0."""
    return TcpAddress(*listening.getsockname()[:2])


def destination(ancillary: Iterable[tuple[int, int, bytes]]) -> str:
    """The local address that a datagram was sent to, without a zone; "" if it is not known."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return socket.inet_ntop(socket.AF_INET, _PKTINFO.unpack(data)[1])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, _PKTINFO6.unpack(data)[0])
    return ""


def to_client(local: tuple[str, int], client: Address, queued_bytes: int) -> socket.socket:
    """A socket at ``local``, a listener's address, connected to ``client``. Raises OSError.

    Before it is connected, datagrams of other clients can reach it: the reader must compare their sources.
    """
    opened = _reusable(_family(local[0]))
    try:
        _limit_queues(opened, queued_bytes)
        # The scope of addresses that are local to a link is the client's.
        opened.bind((*local, 0, client[3]) if len(client) > 2 else local)
        opened.connect(client)
    except OSError:
        opened.close()
        raise
    return opened


def to_server(host: str, port: int, queued_bytes: int) -> socket.socket:
    """A socket that is connected to the server. Raises OSError."""
    opened = socket.socket(_family(host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _limit_queues(opened, queued_bytes)
        opened.connect((host, port))
    except OSError:
        opened.close()
        raise
    return opened


def _reusable(family: socket.AddressFamily) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return opened


def _report_destinations(listening: socket.socket) -> None:
    """Have the kernel report the destination of each datagram: replies must come from there."""
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        listening.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _limit_queues(opened: socket.socket, queued_bytes: int) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        opened.setsockopt(socket.SOL_SOCKET, option, queued_bytes)


def _family(host: str) -> Any:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
