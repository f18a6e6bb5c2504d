"""The UDP sockets that workers receive first datagrams on: for each ``[[udp]]``, one for each worker.

They stay open here, as the listening sockets do (listening_sockets.py), so that datagrams wait in them
while a worker is replaced. The kernel distributes clients to all sockets of an address, so those that no
worker of the current configuration reads must be closed.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final, final

import attrs
from attrs import frozen
from twisted.logger import Logger

from gateway.addresses import TcpAddress
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.supervisor.worker_process import inheritable_copy
from gateway.udp import sockets

_log = Logger()

# Address as configured; how many [[udp]] with the same come before, since several can have port 0; and the
# worker's index.
Key = tuple[str, int, int]
_FIRST: Final = 0


@frozen
class HandedOverDatagramSocket:
    """A socket with its key, for the supervisor's successor."""

    address: str
    number: int
    worker: int
    descriptor: int


def _places(configuration: Config) -> list[tuple[TcpAddress, int]]:
    """The address of each ``[[udp]]``, and how many with the same come before."""
    seen: Counter[str] = Counter()
    places: list[tuple[TcpAddress, int]] = []
    for udp in configuration.udp:
        places.append((udp.address, seen[str(udp.address)]))
        seen[str(udp.address)] += 1
    return places


def _keys(configuration: Config, workers: int) -> list[Key]:
    return [
        (str(address), number, worker)
        for address, number in _places(configuration)
        for worker in range(workers)
    ]


@final
class DatagramSockets:
    """The open sockets."""

    def __init__(self) -> None:
        self._sockets: dict[Key, socket.socket] = {}

    def open(self, configuration: Config, workers: int) -> list[list[socket.socket]]:
        """For each ``[[udp]]`` the sockets of all workers: those that are open already, and new ones.

        Raises ConfigurationError, with no new one left open.
        """
        before = set(self._sockets)
        try:
            for index, (address, number) in enumerate(_places(configuration)):
                with configuration.source.at("udp", index, "address"):
                    self._open_all(address, number, workers)
        except ConfigurationError:
            self._close(self._sockets.keys() - before)
            raise
        return self.of(configuration, workers)

    def of(self, configuration: Config, workers: int) -> list[list[socket.socket]]:
        """As ``open`` returns them, as far as they are open."""
        found = [
            [self._sockets.get((str(address), number, worker)) for worker in range(workers)]
            for address, number in _places(configuration)
        ]
        return [[each for each in row if each is not None] for row in found]

    def _open_all(self, address: TcpAddress, number: int, workers: int) -> None:
        for worker in range(workers):
            key = str(address), number, worker
            if key in self._sockets:
                continue
            first = self._sockets.get((str(address), number, _FIRST))
            place = address if first is None else sockets.address_of(first)
            self._sockets[key] = sockets.listen(place)
            if first is None:
                _log.info(
                    "receiving datagrams on {address}",
                    address=sockets.address_of(self._sockets[key]),
                )

    def close_others(self, configuration: Config, workers: int) -> None:
        """Close the sockets that the workers of this configuration do not read."""
        self._close(self._sockets.keys() - set(_keys(configuration, workers)))

    def close(self) -> None:
        """Close all."""
        self._close(set(self._sockets))

    def _close(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._sockets.pop(key).close()

    def hand_over(self, closing: ExitStack) -> list[HandedOverDatagramSocket]:
        """Copies that survive an exec, and that ``closing`` closes."""
        return [
            HandedOverDatagramSocket(*key, inheritable_copy(each.fileno(), closing))
            for key, each in self._sockets.items()
        ]

    def adopt(self, handed_over: Sequence[HandedOverDatagramSocket]) -> None:
        """Take over what ``hand_over`` gave."""
        for each in handed_over:
            address, number, worker, descriptor = attrs.astuple(each)
            self._sockets[address, number, worker] = sockets.adopt(descriptor)
