"""A relay that cuts the connections of tunnels again and again."""

from __future__ import annotations

import socket
from threading import Event, Thread
from time import monotonic
from typing import Final, final

from tests.helpers.interop.relay import How, Link, Relay, end
from tests.helpers.interop.servers import LOOPBACK

_LOOK_EVERY_S: Final = 0.02


@final
class _CutLink(Link):
    """``is_open``: whether it carries a session. A lost open is not repeated."""

    is_open = False

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self.since = monotonic()

    def from_client(self, data: bytes) -> None:
        self.is_open = self.is_open or not data.startswith(b"POST /open/")
        self.server.sendall(data)

    def from_server(self, data: bytes) -> None:
        self.client.sendall(data)


@final
class Scissors:
    """A relay that cuts its connections every ``every_s`` seconds, all at once; or, if they are ``aged``,
    each when it is as old. It listens on ``address``.
    """

    def __init__(
        self, port: int, how: How, every_s: float, aged: bool = False, address: str = LOOPBACK
    ) -> None:
        self._relay = Relay(port, _CutLink, address)
        self._every_s = every_s
        self._aged = aged
        self.port = self._relay.port
        self.cuts = 0
        self._how = how
        self._is_over = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S if self._aged else self._every_s):
            now = monotonic()
            for link in self._relay.links:
                is_due = not self._aged or now >= link.since + self._every_s
                if link.is_open and not link.ended and is_due:
                    self.cuts += 1
                    link.close() if self._how is How.FIN else _reset(link)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._relay.close()


def _reset(link: Link) -> None:
    for side in (link.client, link.server):
        # Closing it would not wake its thread.
        end(side.dup(), How.RESET)
    link.close()
