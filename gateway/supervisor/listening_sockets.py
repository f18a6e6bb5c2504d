"""The sockets that workers accept on. They stay open here, so that no connection is refused while workers
start and end: clients wait in the kernel's accept queue meanwhile.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from gateway.addresses import ListenAddress, TcpAddress, UnixAddress
from gateway.configuration.problems import KeyPath
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.listeners.ports import SocketOptions, address_of, adopt, listen
from gateway.supervisor.succession import HandedOverSocket
from gateway.supervisor.worker_process import inheritable_copy

_log = Logger()

# The beginning of the addresses of UNIX sockets, but not of systemd's.
_UNIX: Final = "unix:"
# The modes of UNIX sockets' files. A peer on one with the PROXY protocol can claim to be any client, and
# has no address of its own that could be trusted or not: it must be of the gateway's user or group.
_MODE: Final = 0o666
_MODE_FOR_PROXIES: Final = 0o660

# Address and congestion control, with which a socket is opened; and how many listeners with the same come
# before: several can have port 0.
Key = tuple[str, str, int]


def listeners_of(configuration: Config) -> list[tuple[KeyPath, ListenAddress, str]]:
    """Key path, address and congestion control of each listener. The last is for other nodes, if any."""
    found: list[tuple[KeyPath, ListenAddress, str]] = [
        (("listener", index), listener.address, listener.congestion_control)
        for index, listener in enumerate(configuration.listeners)
    ]
    if configuration.node.address is not None:
        found.append((("node",), configuration.node.address, ""))
    return found


def modes_of(configuration: Config) -> dict[str, int]:
    """The mode of each UNIX socket's file, by its path."""
    return {
        listener.address.path: _MODE_FOR_PROXIES if listener.proxy_protocol else _MODE
        for listener in configuration.listeners
        if isinstance(listener.address, UnixAddress)
    }


def keys_of(configuration: Config) -> list[Key]:
    """The key of each of ``listeners_of``."""
    seen: Counter[tuple[str, str]] = Counter()
    keys: list[Key] = []
    for _, address, congestion_control in listeners_of(configuration):
        pair = str(address), congestion_control
        keys.append((*pair, seen[pair]))
        seen[pair] += 1
    return keys


@final
class ListeningSockets:
    """The open sockets, as ports of Twisted that never accept."""

    def __init__(self, reactor: Any, environment: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._environment = environment
        self._ports: dict[Key, Any] = {}

    def open(self, configuration: Config) -> list[Any]:
        """One port for each of ``listeners_of``: those that are open already, and new ones.

        Raises ConfigurationError, with no new one left open.
        """
        opened: dict[Key, Any] = {}
        try:
            for index, key in enumerate(keys_of(configuration)):
                if key not in self._ports:
                    opened[key] = self._open(configuration, index)
        except ConfigurationError:
            for port in opened.values():
                port.stopListening()
            raise
        self._ports |= opened
        for path, mode in modes_of(configuration).items():
            if mode != _MODE:
                # It may have been open before, with the other mode.
                _change_mode(path, mode)
        return self.of(configuration)

    def of(self, configuration: Config) -> list[Any]:
        """The ports of a configuration's listeners, as far as they are open."""
        keys = keys_of(configuration)
        return [self._ports[key] for key in keys if key in self._ports]

    def close_others(self, configurations: Sequence[Config]) -> None:
        """Close the sockets that are in none of these configurations, which are in use."""
        used = {key for each in configurations for key in keys_of(each)}
        for key in self._ports.keys() - used:
            self._ports.pop(key).stopListening()
        for each in configurations:
            for path, mode in modes_of(each).items():
                _change_mode(path, mode)

    def close(self) -> Deferred[Any]:
        """Close all; called back when they are."""
        ports, self._ports = self._ports, {}
        return DeferredList([port.stopListening() for port in ports.values() if port.connected])

    def hand_over(self, closing: ExitStack) -> list[HandedOverSocket]:
        """Copies that survive an exec, and that ``closing`` closes."""
        return [
            HandedOverSocket(*key, inheritable_copy(port.fileno(), closing))
            for key, port in self._ports.items()
        ]

    def adopt(self, sockets: Sequence[HandedOverSocket]) -> None:
        """Take over what ``hand_over`` gave."""
        for each in sockets:
            owns_file = each.address.startswith(_UNIX)
            port = adopt(self._reactor, each.descriptor, ServerFactory(), owns_file)
            port.stopReading()
            os.close(each.descriptor)
            self._ports[each.address, each.congestion_control, each.number] = port

    def _open(self, configuration: Config, index: int) -> Any:
        path, address, congestion_control = listeners_of(configuration)[index]
        modes = modes_of(configuration)
        mode = modes[address.path] if isinstance(address, UnixAddress) else _MODE
        with configuration.source.at(*path, "address"):
            port = listen(
                *(self._reactor, address, ServerFactory(), self._environment, mode),
                options=SocketOptions(configuration.limits.vanished_s, congestion_control),
            )
        port.stopReading()
        _log.info(
            "{for_nodes}listening on {address}",
            for_nodes="for other nodes, " if path == ("node",) else "",
            address=address_of(port) if isinstance(address, TcpAddress) else address,
        )
        return port


def _change_mode(path: str, mode: int) -> None:
    """Change the mode of a UNIX socket's file, if that still is one."""
    with suppress(OSError):
        file = Path(path)
        if file.is_socket():
            file.chmod(mode)
