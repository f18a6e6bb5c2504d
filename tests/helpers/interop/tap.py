"""A recorder of the RTMP connections of an upstream, with times."""

from __future__ import annotations

import socket
from time import monotonic
from typing import final

from tests.helpers.interop.programs import until
from tests.helpers.interop.relay import Link, Relay

# AMF0 strings, as they stand in NetConnection and NetStream commands and their answers.
_PLAYING = b"NetStream.Play"
_PUBLISHING = b"NetStream.Publish.Start"


@final
class TappedLink(Link):
    """``up`` and ``down`` are all bytes to and from the upstream, ``up_times`` their arrival times."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self.up = bytearray()
        self.up_times: list[float] = []
        self.down = bytearray()

    def from_client(self, data: bytes) -> None:
        self.up += data
        self.up_times.append(monotonic())
        self.server.sendall(data)

    def from_server(self, data: bytes) -> None:
        self.down += data
        self.client.sendall(data)


@final
class Tap:
    """A relay in front of an upstream, for direct clients and the gateway."""

    def __init__(self, upstream_port: int) -> None:
        self._relay = Relay(upstream_port, TappedLink)
        self.port = self._relay.port
        self.close = self._relay.close
        self.forget = self._relay.forget

    @property
    def links(self) -> list[TappedLink]:
        """The connections so far, in the order of their arrival."""
        return self._relay.links

    def players(self, count: int) -> None:
        """Wait until the upstream has accepted ``count`` players."""
        until(lambda: self._count(_PLAYING) >= count, f"{count} clients play")

    def publishers(self, count: int) -> None:
        """Wait until the upstream has accepted ``count`` publishers."""
        until(lambda: self._count(_PUBLISHING) >= count, f"{count} clients publish")

    def plays(self, name: str) -> bool:
        """Whether the upstream has let a client play the stream ``name``."""
        words = name.encode()
        return any(words in link.up and _PLAYING in link.down for link in self.links)

    def _count(self, words: bytes) -> int:
        return sum(words in link.down for link in self.links)
