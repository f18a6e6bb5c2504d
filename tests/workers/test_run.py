"""The end of a worker process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from gateway.workers.run import stop_once_sent
from tests.helpers.turning import Turning

# More than the buffers of a UNIX socket.
_LARGE = bytes(1024 * 1024)


class Channel:
    """A connection with a supervisor that does not read by itself. ``stops``: of the reactor."""

    def __init__(self) -> None:
        self.turning = Turning()
        self.stops: list[None] = []
        self.turning.reactor.stop = lambda: self.stops.append(None)
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        ours.setblocking(False)
        protocol: Any = Protocol()
        factory: Any = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        self.turning.reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        ours.close()
        self.transport = protocol.transport

    def read(self) -> int:
        """The number of bytes that could be read."""
        try:
            return len(self.theirs.recv(len(_LARGE)))
        except BlockingIOError:
            return 0

    def stop_within(self, seconds: float) -> None:
        reactor = self.turning.reactor
        stop_once_sent(reactor, self.transport, reactor.seconds() + seconds)

    def close(self) -> None:
        self.theirs.close()
        self.turning.close()


@pytest.fixture
def channel() -> Iterator[Channel]:
    channel = Channel()
    yield channel
    channel.close()


def test_a_worker_ends_after_its_supervisor_has_got_all(channel: Channel) -> None:
    channel.transport.write(_LARGE)
    channel.stop_within(60.0)
    # Longer than a worker waits if nothing is unsent.
    waited: list[None] = []
    channel.turning.reactor.callLater(0.3, waited.append, None)
    channel.turning.until(lambda: waited)
    assert not channel.stops
    received = 0

    def read() -> bool:
        nonlocal received
        received += channel.read()
        return received == len(_LARGE)

    channel.turning.until(read)
    channel.turning.until(lambda: channel.stops)


def test_a_worker_does_not_wait_without_end_for_its_supervisor(channel: Channel) -> None:
    channel.transport.write(_LARGE)
    channel.stop_within(0.1)
    channel.turning.until(lambda: channel.stops)
