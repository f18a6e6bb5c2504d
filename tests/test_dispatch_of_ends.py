"""Ends of many connections at once, beside a connection with data."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from itertools import count

import pytest
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.dispatch import dispatch_directly
from gateway.transport import adopt_connection
from tests.helpers.turning import Turning

_LINGER_NOT = struct.pack("ii", 1, 0)
_ENDS = 5


class _Side(Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.ends = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ends += 1


@pytest.fixture
def turning() -> Iterator[Turning]:
    """The clock is an hour later at each look: no time is left after the first end."""
    turning = Turning()
    hours = count(0.0, 3600.0)
    assert dispatch_directly(turning.reactor, lambda: next(hours))
    yield turning
    turning.close()


def connect(turning: Turning) -> tuple[_Side, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    accepted.setblocking(False)
    side = _Side()
    adopt_connection(accepted, side, turning.reactor)
    return side, peer


def end(peer: socket.socket, how: str) -> None:
    if how == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    peer.close()


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_data_does_not_wait_for_the_ends_of_other_connections(turning: Turning, how: str) -> None:
    ending = [connect(turning) for _ in range(_ENDS)]
    live, live_peer = connect(turning)
    for _, peer in ending:
        end(peer, how)
    live_peer.sendall(b"first")
    turning.turn()
    assert live.received == b"first"
    assert sum(side.ends for side, _ in ending) == 1

    live_peer.sendall(b" second")
    turning.turn()
    assert live.received == b"first second"
    assert sum(side.ends for side, _ in ending) == 2
    turning.until(lambda: all(side.ends for side, _ in ending))
    live_peer.close()
    turning.until(lambda: live.ends)


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_all_ends_are_processed_once_with_the_data_before_them(turning: Turning, how: str) -> None:
    ending = [connect(turning) for _ in range(_ENDS)]
    for _, peer in ending:
        peer.sendall(b"last")
        end(peer, how)
    turning.until(lambda: all(side.ends for side, _ in ending))
    turning.settle()
    assert [side.ends for side, _ in ending] == [1] * _ENDS
    if how == "closed":
        assert [side.received for side, _ in ending] == [b"last"] * _ENDS
