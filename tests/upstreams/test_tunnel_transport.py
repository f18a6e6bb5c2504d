"""A session with a tunnel server in place of a TCP connection, over loopback; the test plays the server."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from gateway.addresses import ServerAddress
from gateway.errors import UpstreamUnavailable
from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.answer_times import AnswerTimes
from gateway.protocols.tunnel_client.requests import Requests
from gateway.upstreams.attempt import Settings
from gateway.upstreams.dial import Server
from gateway.upstreams.group import Group
from gateway.upstreams.pool import Pool
from gateway.upstreams.probe import Kind, probe
from gateway.upstreams.tunnel_transport import TunnelTransport
from tests.upstreams.network import LOOPBACK, TURN_S, Network

CLIENT = "192.0.2.7"
AGREED = b"RTMPT-Options: resume=4, direct\r\n"
_REQUEST = re.compile(rb"POST /(\S+) HTTP/1\.1\r\n(?:\S+: .*\r\n)+\r\n")
_LENGTH = re.compile(rb"Content-Length: (\d+)")
_QUICK = Limits(upstream_connect_s=0.5)


class Connection(Protocol):
    """One connection of the far server. It answers an open, and leaves the rest to the test."""

    def __init__(self, far: Far) -> None:
        self.far = far
        self.raw = b""
        self.is_lost = False
        self._buffer = b""

    def connectionMade(self) -> None:
        self.far.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.raw += data
        self._buffer += data
        while (match := _REQUEST.search(self._buffer)) is not None:
            length = int(_LENGTH.search(match[0])[1])  # type: ignore[index]
            end = match.end() + length
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[match.end() : end], self._buffer[end:]
            self.far.take(self, match[1].decode().replace("/ID", ""), body)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.is_lost = True

    def says(self, body: bytes, status: bytes = b"200 OK", fields: bytes = b"") -> None:
        transport: Any = self.transport
        head = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n" % (status, fields, len(body))
        transport.write(head + body)


class Far(Factory):
    """The far server. ``commands``: what it got, without the open."""

    def __init__(self, options: bytes = AGREED, open_status: bytes = b"200 OK") -> None:
        self.connections: list[Connection] = []
        self.commands: list[tuple[str, bytes]] = []
        self.options = options
        self.open_status = open_status
        self.opens = 0
        self.is_silent = False

    def buildProtocol(self, addr: object) -> Connection:
        return Connection(self)

    def take(self, connection: Connection, command: str, body: bytes) -> None:
        if command == "open/1":
            self.opens += 1
            if not self.is_silent:
                found = self.open_status == b"200 OK"
                connection.says(b"ID\n" if found else b"", self.open_status, self.options)
            return
        self.commands.append((command, body))

    @property
    def names(self) -> list[str]:
        return [command for command, _ in self.commands]


class Near(Protocol):
    """The protocol that uses the session."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Exception | None = None
        self.is_full = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        assert self.lost is None, "lost twice"
        self.lost = reason.value

    def pauseProducing(self) -> None:
        self.is_full = True

    def resumeProducing(self) -> None:
        self.is_full = False


class Stage:
    """A pool with one far server, and the protocol that is connected to it."""

    def __init__(self, network: Network, far: Far, proxy_protocol: Any = "off") -> None:
        self.network = network
        self.far = far
        address = network.listen(far, "rtmpt")
        self.pool: Pool = network.pool_of(
            Group([network.member(address, proxy_protocol)]), limits=_QUICK
        )
        self.near = Near()
        self.name = network.result_of(self.pool.connect(self.near, CLIENT))
        assert self.name == str(address)

    @property
    def transport(self) -> Any:
        return self.near.transport

    @property
    def connections(self) -> int:
        """How many sessions the pool counts."""
        return self.pool.members[0].sessions

    def until_commands(self, *names: str) -> None:
        self.network.until(lambda: self.far.names == list(names))


@pytest.fixture
def stage(network: Network) -> Stage:
    return Stage(network, Far())


def test_a_protocol_is_connected_when_the_open_is_answered(stage: Stage) -> None:
    assert stage.name.startswith("rtmpt://127.0.0.1:")
    assert (stage.far.opens, stage.connections) == (1, 1)
    raw = stage.far.connections[0].raw
    port = stage.name.rpartition(":")[2].encode()
    assert b"\r\nHost: 127.0.0.1:%b\r\n" % port in raw
    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in raw


def test_data_goes_both_ways(stage: Stage) -> None:
    stage.transport.write(b"hello")
    stage.until_commands("send/0")
    assert stage.far.commands == [("send/0", b"hello")]
    assert (stage.transport.unsent, stage.transport.unacknowledged) == (0, 5)
    stage.far.connections[0].says(b"\x01answer")
    stage.network.until(lambda: stage.near.received == b"answer")
    assert stage.transport.unacknowledged == 0
    stage.until_commands("send/0", "idle/1")


@pytest.mark.parametrize("status", [b"503 Service Unavailable", b"404 Not Found", b"302 Found"])
def test_a_server_that_opens_no_session_is_down_and_the_next_one_is_used(
    network: Network, status: bytes
) -> None:
    refusing, working = Far(open_status=status), Far()
    addresses = [network.listen(each, "rtmpt") for each in (refusing, working)]
    pool = network.pool_of(Group([network.member(each) for each in addresses]))
    near = Near()
    assert network.result_of(pool.connect(near)) == str(addresses[1])
    assert [each.up for each in pool.health()] == [False, True]
    assert (refusing.opens, working.opens) == (1, 1)


def test_the_open_must_be_answered_within_the_time_of_a_connect(network: Network) -> None:
    far = Far()
    far.is_silent = True
    pool = network.pool_of(Group([network.member(network.listen(far, "rtmpt"))]), limits=_QUICK)
    near = Near()
    with pytest.raises(UpstreamUnavailable):
        network.result_of(pool.connect(near))
    network.until(lambda: far.connections[0].is_lost)
    assert near.transport is None


@pytest.mark.parametrize("lose", ["loseConnection", "loseWriteConnection"])
def test_the_session_is_closed_after_all_data(stage: Stage, lose: str) -> None:
    stage.transport.write(b"last words")
    getattr(stage.transport, lose)()
    stage.until_commands("send/0", "close/1")
    assert stage.near.lost is None
    stage.far.connections[0].says(b"\x01")
    stage.far.connections[0].says(b"\x00")
    stage.network.until(lambda: stage.near.lost)
    assert isinstance(stage.near.lost, ConnectionDone)
    stage.network.until(lambda: stage.far.connections[0].is_lost)
    assert stage.connections == 0


@pytest.mark.parametrize("abort", ["abortConnection", "abort_now"])
def test_an_abort_tells_the_server_and_is_reported_later(stage: Stage, abort: str) -> None:
    getattr(stage.transport, abort)()
    assert stage.near.lost is None
    stage.until_commands("close")
    stage.network.until(lambda: stage.near.lost)
    assert isinstance(stage.near.lost, ConnectionAborted)
    assert stage.connections == 0


def test_a_session_that_the_server_ends_is_a_closed_connection(stage: Stage) -> None:
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    stage.far.connections[0].says(b"\x01last words")
    stage.until_commands("send/0", "idle/1")
    stage.far.connections[0].says(b"", b"404 Not Found")
    stage.network.until(lambda: stage.near.lost)
    assert isinstance(stage.near.lost, ConnectionDone)
    assert stage.near.received == b"last words"
    assert stage.connections == 0


def test_a_lost_connection_is_replaced_if_the_server_resumes(stage: Stage) -> None:
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    first: Any = stage.far.connections[0].transport
    first.abortConnection()
    stage.until_commands("send/0", "send/0")
    stage.far.connections[1].says(b"\x01answer")
    stage.network.until(lambda: stage.near.received == b"answer")
    assert (stage.near.lost, stage.far.opens) == (None, 1)


def test_a_lost_connection_is_the_end_if_the_server_does_not_resume(network: Network) -> None:
    stage = Stage(network, Far(options=b""))
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    first: Any = stage.far.connections[0].transport
    first.abortConnection()
    network.until(lambda: stage.near.lost)
    assert isinstance(stage.near.lost, ConnectionLost)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_each_connection_begins_with_the_header_that_names_the_client(
    network: Network, version: str
) -> None:
    stage = Stage(network, Far(), version)
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    first: Any = stage.far.connections[0].transport
    first.abortConnection()
    stage.until_commands("send/0", "send/0")
    beginning = b"PROXY TCP4 192.0.2.7 " if version == "v1" else b"\r\n\r\n\x00\r\nQUIT\n"
    assert all(each.raw.startswith(beginning) for each in stage.far.connections)


@pytest.mark.parametrize(
    "names", [("stopReading", "startReading"), ("pauseProducing", "resumeProducing")]
)
def test_a_paused_session_does_not_read(stage: Stage, names: tuple[str, str]) -> None:
    stop, start = names
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    getattr(stage.transport, stop)()
    stage.far.connections[0].says(b"\x01" + bytes(5000))
    for _ in range(5):
        stage.network.reactor.iterate(TURN_S)
    assert stage.near.received == b""
    getattr(stage.transport, start)()
    stage.network.until(lambda: len(stage.near.received) == 5000)


def test_the_producer_is_resumed_when_the_sockets_have_taken_all_data(network: Network) -> None:
    stage = Stage(network, Far(b"RTMPT-Options: resume=128, direct\r\n"))
    transport, far = stage.transport, stage.far.connections[0]
    far_transport: Any = far.transport
    far_transport.pauseProducing()
    transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    transport.registerProducer(stage.near, True)
    # Commands carry all of it at once, and the socket only a part.
    for number in range(2):
        transport.write(b"x")
        far.says(b"\x01" + b"%d" % number)
    transport.write(bytes(2_000_000))
    assert stage.near.is_full
    network.until(lambda: stage.near.received == b"01")
    assert stage.near.is_full
    far_transport.resumeProducing()
    network.until(lambda: sum(len(body) for _, body in stage.far.commands) == 2_000_002)
    far.says(b"\x01")
    network.until(lambda: not stage.near.is_full)


def test_the_producer_is_paused_while_too_much_is_unsent(stage: Stage) -> None:
    stage.transport.high_water_bytes = 1000
    stage.transport.registerProducer(stage.near, True)
    for _ in range(4):
        stage.transport.write(b"x")
    assert not stage.near.is_full
    stage.transport.write(bytes(1001))
    assert (stage.near.is_full, stage.transport.unsent) == (True, 1001)
    stage.network.until(lambda: len(stage.far.names) == 4)
    stage.far.connections[0].says(b"\x01")
    stage.network.until(lambda: not stage.near.is_full)
    assert stage.transport.unsent == 0


def test_held_writes_are_sent_together_later(stage: Stage) -> None:
    stage.transport.hold_writes(True)
    stage.transport.write(b"a")
    stage.transport.write(b"b")
    assert (stage.transport.unsent, stage.transport.unacknowledged) == (2, 2)
    stage.transport.hold_writes(False)
    stage.until_commands("send/0")
    assert stage.far.commands == [("send/0", b"ab")]


def check(network: Network, address: ServerAddress, kind: Kind) -> None:
    server = Server(address)
    network.result_of(server.look_up(network.resolving))
    network.result_of(probe(network.reactor, server, kind, 0.5))


def test_a_tcp_check_opens_no_session(network: Network) -> None:
    far = Far()
    check(network, network.listen(far, "rtmpt"), "tcp")
    network.until(lambda: far.connections)
    assert far.opens == 0


class Shaking(Far):
    """A far server that answers the handshake."""

    def take(self, connection: Connection, command: str, body: bytes) -> None:
        super().take(connection, command, body)
        if command.startswith("send/"):
            connection.says(b"\x01\x03" + bytes(3072))


def test_an_rtmp_check_makes_the_handshake_through_a_session_and_closes_it(
    network: Network,
) -> None:
    far = Shaking()
    check(network, network.listen(far, "rtmpt"), "rtmp")
    network.until(lambda: far.names[-1:] == ["close"])
    assert (far.opens, len(far.commands[0][1])) == (1, 1537)


@pytest.mark.parametrize("kind", ["tcp", "rtmp"])
def test_a_check_of_a_server_that_does_not_listen_fails_as_by_tcp(
    network: Network, kind: Kind
) -> None:
    dead = network.dead_server()
    with pytest.raises(UpstreamUnavailable, match="refused"):
        check(network, ServerAddress(dead.host, dead.port, "rtmpt"), kind)


def test_an_rtmp_check_fails_if_there_is_no_handshake(network: Network) -> None:
    with pytest.raises(UpstreamUnavailable, match="does not answer the handshake in time"):
        check(network, network.listen(Far(), "rtmpt"), "rtmp")


# --- Opens that are given up ---


def opening(network: Network, far: Far) -> TunnelTransport:
    """A transport whose open has been sent, and is not answered."""
    far.is_silent = True
    address = network.listen(far, "rtmpt")
    transport = TunnelTransport(
        *(network.reactor, Near(), Settings(address.port, 10.0), Requests(address.authority))
    )
    transport.connect(LOOPBACK)
    network.until(lambda: far.opens)
    return transport


def test_an_open_that_is_given_up_is_closed_when_it_is_answered(network: Network) -> None:
    far = Far()
    transport = opening(network, far)
    transport.cancel()
    network.until(lambda: not far.connections[0].is_lost)
    far.connections[0].says(b"ID\n")
    network.until(lambda: far.names == ["close"])
    network.until(lambda: far.connections[0].is_lost)
    assert not transport.done.called


def test_an_open_that_is_given_up_and_refused_leaves_nothing(network: Network) -> None:
    far = Far()
    transport = opening(network, far)
    transport.cancel()
    far.connections[0].says(b"", b"503 Service Unavailable")
    network.until(lambda: far.connections[0].is_lost)
    assert far.names == []
    assert not transport.done.called


def test_an_open_that_has_not_been_sent_is_given_up_at_once(network: Network) -> None:
    address = network.silent_server()
    transport = TunnelTransport(
        *(network.reactor, Near(), Settings(address.port, 10.0), Requests(address.authority))
    )
    transport.connect(LOOPBACK)
    transport.cancel()
    assert transport.getHandle() is None
    assert not transport.done.called


# --- Figures ---


def test_a_lost_connection_is_counted(stage: Stage) -> None:
    first: Any = stage.far.connections[0].transport
    assert stage.transport.losses == 0
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    first.abortConnection()
    stage.network.until(lambda: len(stage.far.connections) == 2)
    assert stage.transport.losses == 1


def test_times_of_answers_are_measured_on_request(stage: Stage) -> None:
    times = stage.transport.answer_times = AnswerTimes()
    stage.transport.write(b"x")
    stage.until_commands("send/0")
    assert times.take() == []
    stage.far.connections[0].says(b"\x01")
    stage.network.until(lambda: not times.is_timing)
    assert len(times.take()) == 1


def test_the_socket_is_that_of_an_open_connection(stage: Stage) -> None:
    assert stage.transport.getHandle().getpeername()[0] == LOOPBACK


def test_a_refused_open_has_its_status(network: Network) -> None:
    address = network.listen(Far(open_status=b"403 Forbidden"), "rtmpt")
    transport = TunnelTransport(
        *(network.reactor, Near(), Settings(address.port, 10.0), Requests(address.authority))
    )
    errors: list[Any] = []
    transport.done.addErrback(lambda failure: errors.append(failure.value))
    transport.connect(LOOPBACK)
    network.until(lambda: errors)
    assert errors[0].status == 403
