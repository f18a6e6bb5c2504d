"""Connections on loopback whose transports have immediate writes, each with a plain socket as its peer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.dispatch import dispatch_directly
from gateway.listeners.accepting_ports import EagerPort
from gateway.transport import EagerServer
from gateway.upstreams.connector import EagerClient, EagerConnector
from tests.helpers.turning import Turning

# The least that Linux gives; writes of more than some kilobytes are then taken in parts.
SMALL_BUFFER = 4096
MUCH = 1 << 20


class Speaker(Protocol):
    """A protocol that records its events."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[Failure] = []
        self.on_data: Callable[[bytes], None] = self.received.append

    def dataReceived(self, data: bytes) -> None:
        self.on_data(data)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Speaker):
    def __init__(self) -> None:
        super().__init__()
        self.closed: list[str] = []

    def readConnectionLost(self) -> None:
        self.closed.append("read")

    def writeConnectionLost(self) -> None:
        self.closed.append("write")


class Producer:
    """A producer that records its pauses and resumptions."""

    def __init__(self, transport: Any) -> None:
        self.told: list[str] = []
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Servers(ServerFactory):
    noisy = False

    def __init__(self, protocol: type[Speaker]) -> None:
        self.protocol = protocol
        self.made: list[Speaker] = []

    def buildProtocol(self, addr: object) -> Speaker:
        self.made.append(self.protocol())
        return self.made[-1]


class Clients(ClientFactory):
    noisy = False

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.failed: list[Failure] = []

    def buildProtocol(self, addr: object) -> Speaker:
        return self.speaker

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.failed.append(reason)


class Peer:
    """The peer: a plain socket that reads when the test calls ``read``."""

    def __init__(self, turning: Turning, sock: socket.socket) -> None:
        self.turning = turning
        self.sock = sock
        sock.setblocking(False)
        self.received = bytearray()
        self.ended = False

    def read(self, most: int = MUCH) -> int:
        """The bytes available now, up to ``most``."""
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            data = b""
        self.ended = not data
        self.received += data
        return len(data)

    def read_until(self, size: int, a_time: int = MUCH) -> None:
        def enough() -> bool:
            self.read(a_time)
            return len(self.received) >= size

        self.turning.until(enough)

    def read_to_the_end(self) -> None:
        def over() -> bool:
            self.read()
            return self.ended

        self.turning.until(over)


# A protocol, and its peer.
Pair = tuple[Any, Peer]


@contextmanager
def turning_by(direct_dispatch: bool) -> Iterator[Turning]:
    """A reactor with Twisted's own dispatch, or the gateway's."""
    turning = Turning()
    if direct_dispatch:
        assert dispatch_directly(turning.reactor)
    yield turning
    turning.close()


@contextmanager
def logged_failures() -> Iterator[list[Failure]]:
    """The logged failures; the test removes the expected ones."""
    failures: list[Failure] = []

    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            # Twisted's own dispatch still logs in the old way.
            failures.append(event["log_failure"] if "log_failure" in event else event["failure"])

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)
    assert not failures


@contextmanager
def accepting(turning: Turning) -> Iterator[Callable[..., Pair]]:
    """Makes a protocol on an EagerServer, and its client; both with buffers as small as can be, unless
    ``send_buffer`` leaves the server's to the system.
    """
    peers: list[Peer] = []

    def make(protocol: type[Speaker] = Speaker, send_buffer: int | None = SMALL_BUFFER) -> Pair:
        factory = Servers(protocol)
        port = EagerPort(0, factory, 50, "127.0.0.1", turning.reactor)
        port.startListening()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.connect(("127.0.0.1", port.getHost().port))
        peers.append(Peer(turning, sock))
        turning.until(lambda: factory.made and factory.made[0].transport)
        speaker = factory.made[0]
        assert type(speaker.transport) is EagerServer
        if send_buffer is not None:
            speaker.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return speaker, peers[-1]

    yield make
    for peer in peers:
        peer.sock.close()


@contextmanager
def dialling(turning: Turning) -> Iterator[Callable[..., Pair]]:
    """Makes a protocol on an EagerClient, and its server."""
    peers: list[Peer] = []

    def make(protocol: type[Speaker] = Speaker) -> Pair:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            factory = Clients(protocol())
            host, port = listening.getsockname()
            EagerConnector(host, port, factory, 5, None, turning.reactor).connect()
            speaker = factory.speaker
            turning.until(lambda: speaker.transport)
            peers.append(Peer(turning, listening.accept()[0]))
        assert type(speaker.transport) is EagerClient
        speaker.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        return speaker, peers[-1]

    yield make
    for peer in peers:
        peer.sock.close()
