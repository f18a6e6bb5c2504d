"""A TCP relay between a program and a server, for inspection and cuts.

Each connection has its own thread, so that connections do not wait for each other. Subclasses of ``Link``
inspect or cut the bytes; this module only moves them.
"""

from __future__ import annotations

import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from select import select
from threading import Thread
from typing import Generic, TypeVar, final

from tests.helpers.interop.servers import LOOPBACK

_READ_BYTES = 64 * 1024
_LINGER_NOT = struct.pack("ii", 1, 0)


class How(Enum):
    """How a TCP connection ends: with FIN, or with RST."""

    FIN = "fin"
    RESET = "reset"


class Link(ABC):
    """One relayed connection: the client's socket and the server's."""

    # How long to wait for bytes before ``silence`` is called; None waits for ever.
    patience_s: float | None = None

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.ended = False
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @abstractmethod
    def from_client(self, data: bytes) -> None: ...

    @abstractmethod
    def from_server(self, data: bytes) -> None: ...

    def silence(self) -> None:
        """Called if no data has arrived for ``patience_s``."""
        self.patience_s = None

    def run(self) -> None:
        """Relay until both sides have ended, or one is lost."""
        takers = {self.client: self.from_client, self.server: self.from_server}
        with suppress(OSError):
            while takers:
                readable, _, _ = select(list(takers), [], [], self.patience_s)
                if not readable:
                    self.silence()
                for side in readable:
                    self._relay(side, takers)
        self.client.close()
        self.server.close()
        self.ended = True

    def _relay(
        self, side: socket.socket, takers: dict[socket.socket, Callable[[bytes], None]]
    ) -> None:
        data = side.recv(_READ_BYTES)
        if data:
            takers[side](data)
            return
        del takers[side]
        other = self.server if side is self.client else self.client
        other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the thread by closing both sockets."""
        for side in (self.client, self.server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def end(side: socket.socket, how: How) -> None:
    """Close ``side`` now."""
    if how is How.RESET:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    side.close()


_Link = TypeVar("_Link", bound=Link)


@final
class Relay(Generic[_Link]):
    """Relays to ``server_port``; ``make`` makes a link of the two sockets of a connection."""

    def __init__(
        self,
        server_port: int,
        make: Callable[[socket.socket, socket.socket], _Link],
        address: str = LOOPBACK,
    ) -> None:
        self._server = LOOPBACK, server_port
        self._make = make
        self._listening = socket.create_server((address, 0))
        self.port: int = self._listening.getsockname()[1]
        self.links: list[_Link] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        # Closing it would not wake the thread that waits in accept.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listening.close()
        for link in self.links:
            link.close()
        for thread in self._threads:
            thread.join()

    def forget(self) -> None:
        """End all connections, and keep none of them in ``links``."""
        links, self.links = self.links, []
        for link in links:
            link.close()
        while len(self._threads) > 1:
            self._threads.pop().join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, 5)
        except OSError:
            end(client, How.RESET)
            return
        server.settimeout(None)
        link = self._make(client, server)
        self.links.append(link)
        thread = Thread(target=link.run)
        self._threads.append(thread)
        thread.start()
