"""A client between local programs and servers that a test plays, over loopback."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure

from gateway.client.metrics import Metrics
from gateway.client.remote_gateway import RemoteGateway
from gateway.client.sessions import Sessions
from gateway.client.state_file import StateFile
from gateway.http_proxies import NO_PROXIES, Proxies
from gateway.port_test.ways import Way, parse_way
from gateway.transport import EagerServer
from gateway.upstreams.tls_client import client_context
from tests.upstreams.network import LOOPBACK, Network

HELLO = b"\x03" + bytes(range(256)) * 6
ANSWER = b"\x03" + bytes(reversed(range(256))) * 12
AGENT = "rtmpt-client/1.2"
_REQUEST = re.compile(rb"POST /(\S+) HTTP/1\.1\r\n(?:\S+: .*\r\n)+\r\n")
_LENGTH = re.compile(rb"Content-Length: (\d+)")


class Recorder(Protocol):
    """One end of a connection. ``received``: all bytes; ``is_lost``: whether it has ended."""

    def __init__(self, connections: list[Recorder], says: Callable[[Recorder], None]) -> None:
        self._connections = connections
        self._says = says
        self.received = b""
        self.is_lost = False

    @property
    def wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self._connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._says(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.is_lost = True


class Server(Factory):
    """A server; ``says`` is called after each read."""

    def __init__(self, says: Callable[[Recorder], None] = lambda _: None) -> None:
        self.connections: list[Recorder] = []
        self._says = says

    def buildProtocol(self, addr: object) -> Recorder:
        return Recorder(self.connections, self._says)


def answers(answer: bytes = ANSWER) -> Callable[[Recorder], None]:
    """An RTMP server, or one that gives another answer, to the first 1537 bytes."""

    def says(connection: Recorder) -> None:
        if len(connection.received) == len(HELLO):
            connection.wire.write(answer)

    return says


class TunnelServer(Server):
    """An RTMPT server that resumes. It answers the first send with ``answer``, and holds idles until the
    close. Without ``opens``, the test answers the open. ``commands``: what it got.
    """

    def __init__(self, opens: bool = True) -> None:
        super().__init__(self._read)
        self.opens = opens
        self.commands: list[str] = []
        self.heads: list[bytes] = []
        self.answer = ANSWER
        self._held = 0
        self._at: dict[Recorder, int] = {}

    def _read(self, connection: Recorder) -> None:
        while match := _REQUEST.search(connection.received, self._at.get(connection, 0)):
            end = match.end() + int(_LENGTH.search(match[0])[1])  # type: ignore[index]
            if len(connection.received) < end:
                return
            self._at[connection] = end
            self.heads.append(match[0])
            self._take(connection, match[1].decode())

    def _take(self, connection: Recorder, command: str) -> None:
        self.commands.append(command)
        if command == "open/1":
            if self.opens:
                self.say(connection, b"ID\n")
        elif command.startswith("send"):
            answer, self.answer = self.answer, b""
            self.say(connection, b"\x01" + answer)
        elif command.startswith("idle"):
            self._held += 1
        elif command.startswith("close"):
            for _ in range(self._held + 1):
                self.say(connection, b"\x00")

    def say(self, connection: Recorder, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nRTMPT-Options: resume=4, direct\r\nContent-Length: %d\r\n\r\n"
        connection.wire.write(head % len(body) + body)


class Stage:
    """``names``: the addresses of host names."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.names = network.names.hosts
        self.programs: list[Recorder] = []
        self.state = StateFile(None)
        self.sessions: Sessions | None = None
        self.metrics = Metrics(())
        self._port: Any = None

    def way(self, protocol: str, factory: Factory) -> Way:
        """A way to a server on loopback."""
        return parse_way(f"{protocol}:{self.network.listen(factory).port}")

    def dead_way(self, protocol: str) -> Way:
        return parse_way(f"{protocol}:{self.network.dead_server().port}")

    def start(
        self,
        *ways: Way,
        host: str = LOOPBACK,
        most_connections: int = 4,
        timeout_s: float = 10.0,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        reactor = self.network.reactor
        gateway = RemoteGateway(reactor, host, ways, client_context(), AGENT, proxies)
        self.metrics = Metrics(ways)
        self.sessions = Sessions(
            *(reactor, gateway, ways, self.state, self.metrics, most_connections, timeout_s)
        )
        self.sessions.start()
        self._port = reactor.listenTCP(0, self.sessions, interface=LOOPBACK)
        self._port.transport = EagerServer

    def program(self, hello: bytes = HELLO) -> Recorder:
        """A local program that connects, and sends its handshake."""

        class Connecting(ClientFactory):
            noisy = False
            protocol = None

            def buildProtocol(self, addr: object) -> Recorder:
                return Recorder(programs, lambda _: None)

        programs: list[Recorder] = []
        self.network.reactor.connectTCP(LOOPBACK, self._port.getHost().port, Connecting())
        self.until(lambda: programs)
        programs[0].wire.write(hello)
        self.programs += programs
        return programs[0]

    def until(self, condition: Callable[[], object]) -> None:
        self.network.until(condition)

    def count(self, sample: str, **labels: str) -> float | None:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(sample, labels)

    def stop(self) -> list[object]:
        """Stop the client. The result has one member when it has stopped."""
        sessions, self.sessions = self.sessions, None
        assert sessions is not None
        self._port.stopListening()
        stopped: list[object] = []
        Deferred.fromCoroutine(sessions.stop()).addCallback(stopped.append)
        return stopped

    def close(self) -> None:
        if self.sessions is not None:
            self._port.stopListening()
            Deferred.fromCoroutine(self.sessions.stop())
        for program in self.programs:
            program.wire.abortConnection()
        self.network.reactor.iterate(0)
        end_connections(self.network.reactor)


def end_connections(reactor: Any) -> None:
    """Abort all connections, and close all ports that no longer listen."""
    for selectable in [*reactor.getReaders(), *reactor.getWriters()]:
        if hasattr(selectable, "abortConnection"):
            selectable.abortConnection()
    for _ in range(3):
        reactor.iterate(0)
