"""The sockets that workers accept on. They stay open here, so that no connection is refused while workers
start and end: clients wait in the kernel's accept queue meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ServerFactory

from gateway.configuration.sections import Config, Listener
from gateway.errors import ConfigurationError
from gateway.listeners.ports import adopt
from gateway.supervisor.succession import HandedOverSocket
from gateway.supervisor.worker_process import inheritable_copy
from gateway.workers.client_listeners import open_listener

# Address and congestion control: listeners that agree in both have the same socket.
Key = tuple[str, str]


def key_of(listener: Listener) -> Key:
    return str(listener.address), listener.congestion_control


@final
class ListeningSockets:
    """The open sockets, as ports of Twisted that never accept."""

    def __init__(self, reactor: Any, environment: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._environment = environment
        self._ports: dict[Key, Any] = {}

    def open(self, configuration: Config) -> list[Any]:
        """One port for each listener: those that are open already, and new ones.

        Raises ConfigurationError, with no new one left open.
        """
        opened: dict[Key, Any] = {}
        try:
            for index, listener in enumerate(configuration.listeners):
                if key_of(listener) not in self._ports:
                    opened[key_of(listener)] = self._open(configuration, index)
        except ConfigurationError:
            for port in opened.values():
                port.stopListening()
            raise
        self._ports |= opened
        return self.of(configuration)

    def of(self, configuration: Config) -> list[Any]:
        """The ports of a configuration's listeners, as far as they are open."""
        keys = map(key_of, configuration.listeners)
        return [self._ports[key] for key in keys if key in self._ports]

    def close_others(self, configurations: Iterable[Config]) -> None:
        """Close the sockets that are in none of these."""
        used = {key_of(listener) for each in configurations for listener in each.listeners}
        for key in self._ports.keys() - used:
            self._ports.pop(key).stopListening()

    def close(self) -> Deferred[Any]:
        """Close all; called back when they are."""
        ports, self._ports = self._ports, {}
        return DeferredList([port.stopListening() for port in ports.values() if port.connected])

    def hand_over(self) -> list[HandedOverSocket]:
        """Copies that survive an exec."""
        return [
            HandedOverSocket(list(key), inheritable_copy(port.fileno()))
            for key, port in self._ports.items()
        ]

    def adopt(self, sockets: Sequence[HandedOverSocket]) -> None:
        """Take over what ``hand_over`` gave."""
        for each in sockets:
            port = adopt(self._reactor, each.descriptor, ServerFactory())
            port.stopReading()
            os.close(each.descriptor)
            address, congestion_control = each.key
            self._ports[address, congestion_control] = port

    def _open(self, configuration: Config, index: int) -> Any:
        port = open_listener(
            *(self._reactor, configuration, index, ServerFactory()), self._environment
        )
        port.stopReading()
        return port
