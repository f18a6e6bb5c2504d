"""Listening sockets: opened by us, or handed over by systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISSOCK
from typing import Any

from twisted.internet.protocol import ServerFactory

from gateway.addresses import ListenAddress, SystemdAddress, TcpAddress, UnixAddress
from gateway.errors import ConfigurationError
from gateway.transport import AdoptedUnixPort, EagerPort, EagerUnixPort

# The kernel caps it at net.core.somaxconn (4096); a burst of players opens several at once each.
_BACKLOG = 4096
# sd_listen_fds(3): inherited descriptors begin here.
_FIRST_DESCRIPTOR = 3


def listen(
    reactor: Any,
    address: ListenAddress,
    factory: ServerFactory,
    environment: Mapping[str, str],
    socket_mode: int = 0o666,
) -> Any:
    """Listen on ``address``; Twisted's IListeningPort. A UNIX socket of our own gets ``socket_mode``.

    Raises twisted.internet.error.CannotListenError, ConfigurationError.
    """
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
    """Remove what a killed gateway left; a socket that somebody listens on is kept, and in use."""
    try:
        if not S_ISSOCK(path.stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        # A listener whose backlog is full would keep us waiting.
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
    descriptor = _inherited(address.name, environment)
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        inherited.setblocking(False)
        if inherited.family == socket.AF_UNIX:
            unix: Any = AdoptedUnixPort
            return unix._fromListeningDescriptor(reactor, inherited.fileno(), factory)
        tcp: Any = EagerPort
        return tcp._fromListeningDescriptor(reactor, inherited.fileno(), inherited.family, factory)


def _inherited(name: str, environment: Mapping[str, str]) -> int:
    """The number of the descriptor that systemd handed over under ``name`` (sd_listen_fds(3))."""
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if environment.get("LISTEN_PID") != str(os.getpid()) or name not in names:
        raise ConfigurationError(
            f"systemd:{name}: systemd handed over no socket of that name; "
            "check FileDescriptorName= in the .socket unit"
        )
    return _FIRST_DESCRIPTOR + names.index(name)


def address_of(listening: Any) -> TcpAddress:
    """The address that a listening TCP port came to have, where it was asked for port 0."""
    host = listening.getHost()
    return TcpAddress(host.host, host.port)
