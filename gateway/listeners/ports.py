"""Listening sockets: opened here, or passed by systemd, with explanations of errors."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EEXIST, ENOENT
from pathlib import Path
from stat import S_ISSOCK
from typing import Any

from attrs import frozen
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory

from gateway.addresses import ListenAddress, SystemdAddress, TcpAddress, UnixAddress
from gateway.errors import ConfigurationError
from gateway.listeners.accepting_ports import AdoptedUnixPort, EagerPort, EagerUnixPort
from gateway.protocols.limits import Limits
from gateway.vanished_peers import notice_vanished

# The kernel limits it to net.core.somaxconn (4096). In a burst, each player opens several connections.
_BACKLOG = 4096
# sd_listen_fds(3): inherited descriptors begin here.
_FIRST_DESCRIPTOR = 3
# The default of ip(7), net.ipv4.ip_unprivileged_port_start.
_FIRST_FREE_PORT = 1024
_CONGESTION_CONTROLS = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
# linux/tcp.h: while fewer than four segments are in flight, as with whole answers, the retransmission
# timeout is not doubled.
_TCP_THIN_LINEAR_TIMEOUTS = 16
_TCP_CAUSES = {
    EADDRINUSE: "in use: another program listens there; stop it, or use another port",
    EADDRNOTAVAIL: "this machine has no such address; use one of its own, or 0.0.0.0 or [::] for all",
}
_LOW_PORT_CAUSES = {
    **_TCP_CAUSES,
    EACCES: "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE or root: give the gateway that,"
    " or use a port from 1024 on",
}
_UNIX_CAUSES = {
    EADDRINUSE: "in use: another program listens there; stop it, or use another path",
    EEXIST: "a file that is no socket is there; remove it, or use another path",
    ENOENT: "its folder does not exist; create it, or use another path",
    EACCES: "permission denied; the gateway's user must be able to write in its folder",
}


@frozen
class SocketOptions:
    """Options that accepted connections inherit. They have no effect on UNIX sockets."""

    vanished_s: float = Limits().vanished_s
    # A name known to the kernel (tcp(7), TCP_CONGESTION); "" for the system's default.
    congestion_control: str = ""

    def set_on(self, listening: socket.socket) -> None:
        """Raises OSError."""
        notice_vanished(listening, self.vanished_s)
        if listening.family != socket.AF_UNIX:
            with suppress(OSError):
                listening.setsockopt(socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1)
        if self.congestion_control and listening.family != socket.AF_UNIX:
            name = self.congestion_control.encode()
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)


def check_congestion_control(name: str) -> None:
    """Raises ConfigurationError if the kernel does not know or permit ``name``."""
    with socket.socket() as probe:
        try:
            SocketOptions(congestion_control=name).set_on(probe)
        except OSError as error:
            available = ", ".join(_available_congestion_controls()) or "it does not say which"
            raise ConfigurationError(
                f'"{name}": the kernel refuses it ({error.strerror}); it has: {available}'
            ) from None


def _available_congestion_controls() -> list[str]:
    try:
        return _CONGESTION_CONTROLS.read_text().split()
    except OSError:
        return []


def listen(
    reactor: Any,
    address: ListenAddress,
    factory: ServerFactory,
    environment: Mapping[str, str],
    socket_mode: int = 0o666,
    options: SocketOptions = SocketOptions(),
) -> Any:
    """Listen on ``address``; Twisted's IListeningPort. A UNIX socket of our own gets ``socket_mode``.

    Raises ConfigurationError, one line that begins with the address.
    """
    try:
        port = _listen(reactor, address, factory, environment, socket_mode)
        _set_options(port, options)
        return port
    except CannotListenError as error:
        cause = cause_of(address, error.socketError)
    except OSError as error:
        cause = cause_of(address, error)
    raise ConfigurationError(f'"{address}": {cause}')


def _set_options(port: Any, options: SocketOptions) -> None:
    """Raises OSError, after which the port is closed."""
    try:
        options.set_on(port.socket)
    except OSError:
        port.stopListening()
        raise


def cause_of(address: ListenAddress, error: OSError) -> str:
    """The cause of the error, and the remedy."""
    known = _UNIX_CAUSES
    if isinstance(address, TcpAddress):
        known = _LOW_PORT_CAUSES if address.port < _FIRST_FREE_PORT else _TCP_CAUSES
    return known.get(error.errno or 0, f"cannot be listened on: {error.strerror}")


def _listen(
    reactor: Any,
    address: ListenAddress,
    factory: ServerFactory,
    environment: Mapping[str, str],
    socket_mode: int,
) -> Any:
    if isinstance(address, UnixAddress):
        _remove_dead_socket(Path(address.path))
        port: Any = EagerUnixPort(address.path.encode(), factory, _BACKLOG, socket_mode, reactor)
    elif isinstance(address, SystemdAddress):
        port = _adopt(reactor, address, factory, environment)
    else:
        port = EagerPort(address.port, factory, _BACKLOG, address.host, reactor)
    port.startListening()
    return port


def _remove_dead_socket(path: Path) -> None:
    """Remove a socket file that a killed gateway left. A socket in use is kept.

    Raises OSError; EEXIST for other files.
    """
    try:
        if not S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(EEXIST, os.strerror(EEXIST))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        # Non-blocking, because the listener's accept queue may be full.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:
            return


def _adopt(
    reactor: Any, address: SystemdAddress, factory: ServerFactory, environment: Mapping[str, str]
) -> Any:
    return _port_of(reactor, _inherited(address.name, environment), factory)


def adopt(reactor: Any, descriptor: int, factory: ServerFactory, owns_file: bool = False) -> Any:
    """Listen on a copy of a socket that another process has opened; Twisted's IListeningPort.

    ``owns_file``: whether the file of a UNIX socket is removed when the port is closed.
    """
    port = _port_of(reactor, descriptor, factory)
    port.owns_file = owns_file
    port.startListening()
    return port


def _port_of(reactor: Any, descriptor: int, factory: ServerFactory) -> Any:
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        inherited.setblocking(False)
        if inherited.family == socket.AF_UNIX:
            unix: Any = AdoptedUnixPort
            return unix._fromListeningDescriptor(reactor, inherited.fileno(), factory)
        tcp: Any = EagerPort
        return tcp._fromListeningDescriptor(reactor, inherited.fileno(), inherited.family, factory)


def _inherited(name: str, environment: Mapping[str, str]) -> int:
    """The descriptor that systemd passed with ``name`` (sd_listen_fds(3))."""
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if environment.get("LISTEN_PID") != str(os.getpid()) or name not in names:
        raise ConfigurationError(
            f'"systemd:{name}": systemd handed over no socket of that name; '
            "check FileDescriptorName= in the .socket unit"
        )
    return _FIRST_DESCRIPTOR + names.index(name)


def address_of(listening: Any) -> TcpAddress:
    """The address of a listening TCP port, with the port number chosen for 0."""
    host = listening.getHost()
    return TcpAddress(host.host, host.port)


def places_of(listening: Any) -> list[TcpAddress]:
    """All TCP addresses of a listening port; a socket of systemd's may take both families."""
    host = listening.getHost()
    if not hasattr(host, "port"):
        return []
    found = [TcpAddress(host.host, host.port)]
    if found[0].is_wildcard and ":" in host.host:
        shared = listening.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
        found += [TcpAddress("0.0.0.0", host.port)] if shared else []
    return found
