"""Half-closed connections of the relay, with real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import ANY_PORT, LOOPBACK, start_gateway

_HELLO = b"\x03" + bytes(1536)
# More than the buffers on the way hold, so that an end which comes too early cuts something off.
_MUCH = bytes(range(256)) * 65536


def everything(connection: socket.socket) -> bytes:
    """All data that a side sends until its end."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def listen_then_speak(connection: socket.socket) -> bytes:
    heard = everything(connection)
    connection.sendall(_MUCH)
    connection.shutdown(socket.SHUT_WR)
    return heard


def speak_then_listen(connection: socket.socket) -> bytes:
    connection.sendall(_MUCH)
    connection.shutdown(socket.SHUT_WR)
    return everything(connection)


class Peer:
    """An upstream whose one connection the test controls, and the data received on it."""

    def __init__(self) -> None:
        self.listening = socket.create_server((LOOPBACK, 0))
        self.heard = b""

    def start(self, behave) -> Thread:
        thread = Thread(target=self._run, args=[behave])
        thread.start()
        return thread

    def _run(self, behave) -> None:
        connection, _ = self.listening.accept()
        with connection:
            self.heard = behave(connection)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.listening.close()


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_the_side_that_half_closes_first_receives_all_data(
    programs: Programs, peer: Peer, first: str
) -> None:
    port = peer.listening.getsockname()[1]
    _, gateway_port = start_gateway(programs, *ANY_PORT, "--upstream", f"{LOOPBACK}:{port}")
    ends = speak_then_listen, listen_then_speak
    client_does, upstream_does = ends if first == "client" else ends[::-1]
    thread = peer.start(upstream_does)
    with socket.create_connection((LOOPBACK, gateway_port), 20) as client:
        client.sendall(_HELLO)
        heard = client_does(client)
    thread.join()
    assert peer.heard == _HELLO + _MUCH
    assert heard == _MUCH
