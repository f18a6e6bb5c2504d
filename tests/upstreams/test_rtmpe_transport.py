"""Servers that demand RTMPE: connects to them, and their connections as transports of sessions."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.protocols.rtmp.handshake import BLOCK_BYTES, ClientHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES as PLAIN_RANDOM_BYTES
from gateway.protocols.rtmp.initiation import RANDOM_BYTES, RTMPEInitiation
from gateway.upstreams.dial import Server, connect
from gateway.upstreams.rtmpe_transport import HandshakeFailed, RTMPETransport
from tests.helpers.line import Line
from tests.helpers.rtmpe_client import RTMPEServer
from tests.upstreams.network import Network

RANDOM = Random(1).randbytes(RANDOM_BYTES)


class Session:
    """The session's side: notes what it gets."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.lost: Exception | None = None
        self.ended = self.paused = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason.value  # type: ignore[assignment]

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` follows."""


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Session):
    def readConnectionLost(self) -> None:
        self.ended = True

    def writeConnectionLost(self) -> None:
        pass


class Joined:
    """A transport on a connection to a server that the test plays."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = session or Session()
        self.losses = 0
        self.transport: Any = RTMPETransport(
            self.session, RTMPEInitiation(7, RANDOM), self._note_loss
        )
        self.line = Line().connect(self.transport)
        self.server = RTMPEServer()
        self.failures: list[Failure] = []
        self.transport.ready.addErrback(self.failures.append)

    def _note_loss(self) -> None:
        self.losses += 1

    def shake_hands(self) -> None:
        """Both handshakes."""
        self.line.says(self.server.answer(bytes(self.line.received)))
        self.line.received.clear()
        client = ClientHandshake(0, bytes(PLAIN_RANDOM_BYTES))
        self.session.transport.write(client.hello)
        self.session.transport.write(client.receive(self.session.received))
        self.session.received = b""


def test_the_session_gets_its_transport_when_the_servers_handshake_is_complete() -> None:
    joined = Joined()
    answer = joined.server.answer(bytes(joined.line.received))
    joined.line.says(answer[:-1])
    assert joined.session.transport is None
    joined.line.says(answer[-1:])
    assert joined.session.transport is joined.transport
    assert joined.transport.ready.called
    assert joined.session.received == b""


def test_data_passes_in_both_directions() -> None:
    joined = Joined()
    joined.shake_hands()
    joined.session.transport.write(b"connect")
    assert joined.server.decrypt(bytes(joined.line.received)) == b"connect"
    joined.line.says(joined.server.encrypt(b"_result"))
    assert joined.session.received == b"_result"


def test_held_writes_stay_in_order() -> None:
    joined = Joined()
    joined.shake_hands()
    joined.transport.hold_writes(True)
    joined.transport.write(b"one ")
    joined.transport.write(b"two")
    assert joined.line.received == b""
    joined.transport.hold_writes(False)
    joined.line.turn()
    assert joined.server.decrypt(bytes(joined.line.received)) == b"one two"


def test_a_full_server_pauses_the_session() -> None:
    joined = Joined()
    joined.shake_hands()
    joined.transport.high_water_bytes = 10
    assert joined.line.high_water_bytes == 10
    joined.line._room = 0
    joined.transport.write(bytes(100))
    assert joined.session.paused
    assert joined.transport.unsent == 100


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"\x03", "the server answers with version 3, which is not RTMPE"),
        (b"\x06" + bytes(3072), "the server's RTMPE handshake has no digest"),
    ],
)
def test_a_server_without_rtmpe_has_failed_and_the_session_learns_nothing(
    said: bytes, cause: str
) -> None:
    joined = Joined()
    joined.line.says(said)
    (failure,) = joined.failures
    assert failure.check(HandshakeFailed) is not None
    assert str(failure.value) == cause
    joined.line.turn()
    assert joined.line.aborted
    joined.transport.notify_lost()
    assert (joined.session.transport, joined.session.lost, joined.losses) == (None, None, 0)


@pytest.mark.parametrize("end", ["ends", "resets"])
def test_a_server_that_closes_during_the_handshake_has_failed(end: str) -> None:
    joined = Joined()
    joined.line.says(b"\x06")
    getattr(joined.line, end)()
    joined.line.turn()
    (failure,) = joined.failures
    assert str(failure.value) == "it closes the connection during the RTMPE handshake"
    assert joined.session.lost is None


def test_a_client_that_does_not_speak_rtmp_loses_its_connection() -> None:
    joined = Joined()
    joined.line.says(joined.server.answer(bytes(joined.line.received)))
    joined.session.transport.write(b"\x09")
    joined.session.transport.write(b"\x03")
    joined.line.turn()
    assert joined.line.aborted
    assert isinstance(joined.session.lost, ConnectionLost)


def test_the_end_of_the_servers_stream_is_passed_on() -> None:
    joined = Joined(HalfCloseable())
    joined.shake_hands()
    joined.line.ends()
    joined.line.turn()
    assert joined.session.ended
    assert joined.session.lost is None


def test_a_session_without_half_close_is_told_of_the_end_as_a_closed_connection() -> None:
    joined = Joined()
    joined.shake_hands()
    joined.line.ends()
    for _ in range(3):
        joined.line.turn()
    assert isinstance(joined.session.lost, ConnectionDone)
    joined.transport.notify_lost()
    assert joined.losses == 1


# --- Connects ---


class Accepted(Protocol):
    """A server's connection. It answers with ``answer``, once C0 and C1 are there, or not at all."""

    answers: Any = None
    ended = False

    def connectionMade(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.answers is not None and len(self.received) == 1537:
            assert self.transport is not None
            self.transport.write(self.answers(self.received))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


def listening(network: Network, answers: Any) -> tuple[Server, list[Accepted]]:
    accepted: list[Accepted] = []

    def build(_: object) -> Accepted:
        connection = Accepted()
        connection.answers = answers
        accepted.append(connection)
        return connection

    factory = Factory()
    factory.buildProtocol = build  # type: ignore[method-assign,assignment]
    server = Server(network.listen(factory, "rtmpe"))
    network.result_of(server.look_up(network.resolving))
    return server, accepted


def test_a_connect_is_complete_after_the_rtmpe_handshake(network: Network) -> None:
    server, _ = listening(network, lambda hello: RTMPEServer().answer(hello))
    session = Session()
    network.result_of(connect(network.reactor, server, session, 5.0))  # type: ignore[arg-type]
    assert session.transport is not None
    session.transport.abortConnection()


def test_a_server_that_does_not_answer_has_failed_at_the_deadline(network: Network) -> None:
    server, (accepted) = listening(network, None)
    session, losses = Session(), []
    with pytest.raises(HandshakeFailed, match="in time"):
        network.result_of(
            connect(
                *(network.reactor, server, session, 0.1),  # type: ignore[arg-type]
                lost=lambda: losses.append(1),
            )
        )
    network.until(lambda: accepted[0].ended)
    assert (session.transport, losses) == (None, [])


def test_without_a_session_no_handshake_is_made(network: Network) -> None:
    server, accepted = listening(network, None)
    session = Session()
    network.result_of(connect(network.reactor, server, session, 5.0, opens=False))  # type: ignore[arg-type]
    assert session.transport is not None
    assert accepted[0].received == b""
    session.transport.abortConnection()


# --- Damaged handshakes ---


def drip(network: Network, connection: Accepted, data: bytes, piece_bytes: int) -> None:
    """Send ``data`` in pieces, one every 20 ms, until the connection ends."""
    if data and not connection.ended:
        connection.transport.write(data[:piece_bytes])  # type: ignore[union-attr]
        rest = data[piece_bytes:]
        network.reactor.callLater(0.02, drip, network, connection, rest, piece_bytes)


@pytest.mark.parametrize("piece_bytes", [1, 100])
def test_a_handshake_that_comes_in_pieces_has_the_same_deadline(
    network: Network, piece_bytes: int
) -> None:
    def answer(hello: bytes) -> bytes:
        drip(network, accepted[0], RTMPEServer().answer(hello), piece_bytes)
        return b""

    server, accepted = listening(network, answer)
    session = Session()
    # All pieces take 0.6 s or more.
    with pytest.raises(HandshakeFailed, match="in time"):
        network.result_of(connect(network.reactor, server, session, 0.3))  # type: ignore[arg-type]
    assert session.transport is None
    network.until(lambda: accepted[0].ended)


def damaged(random: Random, hello: bytes) -> bytes:
    """An answer to C0 and C1 that is none, or not to its end."""
    data = bytearray(RTMPEServer(random.randrange(2), random.choice([6, 8])).answer(hello))
    kind = random.randrange(3)
    if kind == 0:
        return bytes(data[: random.randrange(len(data))])
    if kind == 1:
        return random.randbytes(random.randrange(8192))
    # S0 and S1: nothing depends on S2.
    data[random.randrange(1 + BLOCK_BYTES)] ^= random.randrange(1, 256)
    return bytes(data)


def test_a_damaged_handshake_fails_at_its_deadline_at_the_latest(network: Network) -> None:
    random = Random(1)
    server, accepted = listening(network, lambda hello: damaged(random, hello))
    sessions = [Session() for _ in range(60)]
    failures: list[Failure] = []
    began = network.reactor.seconds()
    for session in sessions:
        attempt: Any = connect(network.reactor, server, session, 1.0)  # type: ignore[arg-type]
        Deferred.fromCoroutine(attempt).addErrback(failures.append)
    network.until(lambda: len(failures) == len(sessions))
    # The deadline, and the work on 60 handshakes.
    assert network.reactor.seconds() - began < 5.0
    # A busy machine connects some too late.
    assert all(failure.check(ConnectError) is not None for failure in failures)
    assert all(session.transport is None for session in sessions)
    network.until(lambda: all(connection.ended for connection in accepted))
