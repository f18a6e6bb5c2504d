"""TLS connections with a real client in memory: data, ends, and limits."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from gateway.tls import TLSConnection, of_server
from tests.helpers.line import Line
from tests.helpers.renegotiations import CIPHER, renegotiations

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
# A record's own head, nonce and tag, at most.
RECORD_COST = 5 + 8 + 16 + 1


class Recorder:
    """The protocol above TLS. ``on_data`` is called with the received data."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.pieces: list[bytes] = []
        self.ends = 0
        self.losses: list[Exception] = []
        self.paused = 0
        self.resumed = 0
        self.on_data: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(data)
        if self.on_data is not None:
            self.on_data(data)

    def connectionLost(self, reason: Any) -> None:
        self.losses.append(reason.value)

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        self.resumed += 1


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    def readConnectionLost(self) -> None:
        self.ends += 1

    def writeConnectionLost(self) -> None:
        pass


class Client:
    """A TLS client at the other end of ``line``."""

    def __init__(self, context: ssl.SSLContext, line: Line) -> None:
        self.line = line
        self._down, self._up = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._taken = 0
        self.tls = context.wrap_bio(self._down, self._up, server_hostname="a.example")

    def shake_hands(self, step: int = 1 << 20) -> None:
        """All of the handshake, ``step`` bytes at a time."""
        for _ in range(4):
            self._receive()
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush(step)
        self.flush(step)

    def says(self, data: bytes, step: int = 1 << 20) -> None:
        self.tls.write(data)
        self.flush(step)

    def encrypted(self, data: bytes) -> bytes:
        """The TLS records that carry ``data``."""
        self.tls.write(data)
        return self._up.read()

    def hears(self) -> bytes:
        """The received data; b"" also at the end of the stream."""
        self._receive()
        heard = b""
        try:
            while piece := self.tls.read(65536):
                heard += piece
        except ssl.SSLWantReadError:
            pass
        return heard

    def hears_goodbye(self) -> bool:
        self._receive()
        try:
            return self.tls.read(1) == b""
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            return True

    def says_goodbye(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def flush(self, step: int = 1 << 20) -> None:
        while self._up.pending:
            self.line.says(self._up.read(step))

    def _receive(self) -> None:
        self._down.write(self.line.received[self._taken :])
        self._taken = len(self.line.received)


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    made = ssl.create_default_context()
    authority.configure_trust(made)
    return made


class Server:
    """A TLS connection on a line, with a recorder above it once the handshake is done."""

    def __init__(
        self, context: ssl.SSLContext, above: Recorder, room: float = float("inf")
    ) -> None:
        self.above = above
        self.handshakes = 0
        self.line = Line(room)
        self.tls = TLSConnection(of_server(context), self._handshaken)
        self.line.connect(self.tls)

    def _handshaken(self, tls: TLSConnection) -> None:
        self.handshakes += 1
        tls.protocol = self.above
        self.above.makeConnection(tls)


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def joined(
    request: pytest.FixtureRequest, context: ssl.SSLContext, client_context: ssl.SSLContext
) -> Iterator[tuple[Server, Client]]:
    """Both ends after their handshake, in each version."""
    client_context.maximum_version = request.param
    server = Server(context, HalfCloseable())
    client = Client(client_context, server.line)
    client.shake_hands()
    return server, client


# --- Data ---


@both_versions
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_handshake_and_data_are_read_in_any_segmentation(
    context, client_context, version, step
) -> None:
    client_context.maximum_version = version
    server = Server(context, Recorder())
    client = Client(client_context, server.line)
    client.shake_hands(step)
    assert (server.handshakes, client.tls.version()) == (1, server.tls.version)
    client.says(b"hello", step)
    client.says(b"again", step)
    assert server.above.pieces == [b"hello", b"again"]
    server.above.transport.write(b"answer")
    assert client.hears() == b"answer"


def test_data_in_the_last_segment_of_the_handshake_is_delivered(context, client_context) -> None:
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    server = Server(context, Recorder())
    client = Client(client_context, server.line)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.flush()
    client._receive()
    client.tls.do_handshake()
    server.line.says(client.encrypted(b"at once"))
    assert server.above.received == b"at once"


def test_the_records_of_one_segment_are_delivered_joined(joined) -> None:
    server, client = joined
    server.line.says(b"".join(client.encrypted(b"%d," % number) for number in range(100)))
    assert server.above.pieces == [b"".join(b"%d," % number for number in range(100))]


def test_an_answer_is_sent_in_one_write_and_one_record(joined) -> None:
    server, client = joined
    before, writes = len(server.line.received), len(server.line.writes)
    server.above.transport.write_two(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000))
    sent = bytes(server.line.received[before:])
    assert len(server.line.writes) == writes + 1
    assert sent[0] == 23
    assert int.from_bytes(sent[3:5], "big") == len(sent) - 5
    assert len(sent) <= 1019 + RECORD_COST
    assert client.hears() == b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000)


def test_an_empty_write_sends_no_record(joined) -> None:
    server, _ = joined
    before = len(server.line.received)
    server.above.transport.write(b"")
    assert len(server.line.received) == before


def test_other_attributes_are_those_of_the_transport_below(joined) -> None:
    server, _ = joined
    transport = server.above.transport
    transport.high_water_bytes = 7
    assert (server.line.high_water_bytes, transport.high_water_bytes) == (7, 7)
    transport.last_bytes = 8
    assert (server.line.last_bytes, transport.last_bytes) == (8, 8)
    transport.stopReading()
    assert not server.line.reading
    transport.startReading()
    assert server.line.reading
    assert (transport.unsent, transport.unacknowledged) == (0, 0)


@both_versions
def test_large_data_is_delivered_under_back_pressure_in_both_directions(
    context, client_context, version
) -> None:
    client_context.maximum_version = version
    server = Server(context, HalfCloseable(), room=100_000)
    line, above = server.line, server.above
    client = Client(client_context, line)
    for _ in range(3):
        client.shake_hands()
        line.reads()
    line.registerProducer(above, True)
    line.high_water_bytes = 50_000
    data = bytes(range(256)) * 16 * 1024
    heard, written = b"", 0
    while len(heard) < len(data):
        while written < len(data) and above.paused == above.resumed:
            above.transport.write(data[written : written + 65536])
            written += 65536
            assert line.unsent < 200_000
        client.says(data[len(above.received) :][:300_000])
        line.reads(70_000)
        heard += client.hears()
    assert heard == data
    assert above.received == data
    assert above.paused == above.resumed > 10


# --- Ends ---


def test_a_close_notify_ends_the_clients_data_and_it_still_receives(joined) -> None:
    server, client = joined
    server.line.says(client.encrypted(b"last words"))
    client.says_goodbye()
    assert (server.above.received, server.above.ends) == (b"last words", 1)
    assert not server.line.is_gone
    server.above.transport.write(b"answer")
    assert client.hears() == b"answer"
    server.line.ends()
    assert server.above.ends == 1
    server.above.transport.loseConnection()
    server.line.turn()
    assert client.hears_goodbye()
    assert [type(loss) for loss in server.above.losses] == [ConnectionDone]


def test_data_and_close_notify_in_one_segment_are_both_processed(joined) -> None:
    server, client = joined
    words = client.encrypted(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    server.line.says(words + client._up.read())
    assert (server.above.received, server.above.ends) == (b"last words", 1)


def test_a_connection_that_ends_without_close_notify_is_closed(joined) -> None:
    server, client = joined
    client.says(b"last words")
    server.line.ends()
    assert (server.above.received, server.above.ends, server.above.losses) == (b"last words", 1, [])


def test_a_protocol_without_half_close_support_is_closed(context, client_context) -> None:
    server = Server(context, Recorder())
    client = Client(client_context, server.line)
    client.shake_hands()
    client.says_goodbye()
    assert client.hears_goodbye()
    assert server.line.closed
    assert len(server.above.losses) == 1


def test_data_after_close_notify_is_discarded(joined) -> None:
    server, client = joined
    client.says_goodbye()
    for _ in range(100):
        server.line.says(bytes(10_000))
    assert server.tls._incoming.pending == 0
    assert (server.above.received, server.above.ends, server.above.losses) == (b"", 1, [])


def test_close_notify_is_sent_after_the_last_data(joined) -> None:
    server, client = joined
    server.above.transport.write(b"last words")
    server.above.transport.loseConnection()
    assert not server.line.closed
    server.line.turn()
    assert client.hears() == b"last words"
    assert client.hears_goodbye()
    assert server.line.closed


def test_after_close_notify_the_client_is_still_read(joined) -> None:
    server, client = joined
    server.above.transport.loseWriteConnection()
    server.line.turn()
    assert client.hears_goodbye()
    assert server.line.ended
    client.says(b"one more thing")
    assert server.above.received == b"one more thing"
    server.above.transport.write(b"nothing more")
    assert client.hears() == b""


def test_closing_twice_sends_one_close_notify(joined) -> None:
    server, _ = joined
    before = len(server.line.received)
    server.above.transport.loseWriteConnection()
    once = len(server.line.received) - before
    server.above.transport.loseConnection()
    server.above.transport.loseConnection()
    server.line.turn()
    assert len(server.line.received) - before == once
    assert len(server.above.losses) == 1


def test_the_loss_of_a_client_is_reported_once_and_later_writes_are_discarded(joined) -> None:
    server, _ = joined
    transport, writes = server.above.transport, len(server.line.writes)
    server.line.resets()
    transport.write(b"too late")
    transport.loseConnection()
    transport.abortConnection()
    assert [type(loss) for loss in server.above.losses] == [ConnectionLost]
    assert len(server.line.writes) == writes


def test_a_protocol_may_close_the_connection_while_it_receives_data(joined) -> None:
    server, client = joined
    server.above.on_data = lambda data: server.above.transport.loseConnection()
    words = client.encrypted(b"close")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    server.line.says(words + client._up.read())
    assert server.line.closed
    assert len(server.above.losses) == 1


# --- Invalid TLS ---


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + bytes(1000),
        b"\x80\x2e\x01\x03\x01" + bytes(100),
        bytes(100_000),
    ],
)
def test_invalid_bytes_instead_of_a_handshake_close_the_connection(context, garbage) -> None:
    above = Recorder()
    server = Server(context, above)
    server.line.says(garbage)
    assert server.line.is_gone
    assert server.handshakes == 0
    assert len(server.line.received) <= 7


def test_an_incomplete_handshake_closes_the_connection(context, client_context) -> None:
    server = Server(context, Recorder())
    client = Client(client_context, server.line)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.flush()
    server.line.ends()
    assert server.line.closed
    assert server.handshakes == 0


def test_a_client_that_does_not_trust_the_certificate_sends_an_alert_and_closes(context) -> None:
    server = Server(context, Recorder())
    client = Client(ssl.create_default_context(), server.line)
    with pytest.raises(ssl.SSLCertVerificationError):
        client.shake_hands()
    client.flush()
    assert server.line.is_gone


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls_versions_are_refused_with_an_alert(context, client_context) -> None:
    client_context.minimum_version = ssl.TLSVersion.TLSv1_1
    client_context.maximum_version = ssl.TLSVersion.TLSv1_1
    client_context.set_ciphers("ALL:@SECLEVEL=0")
    server = Server(context, Recorder())
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        Client(client_context, server.line).shake_hands()
    assert server.line.closed
    assert server.handshakes == 0


def test_data_before_an_invalid_record_is_delivered(joined) -> None:
    server, client = joined
    server.line.says(client.encrypted(b"good") + b"garbage that is no record at all")
    assert server.above.received == b"good"
    assert server.line.closed
    assert [type(loss) for loss in server.above.losses] == [ConnectionLost]


def test_an_answer_to_data_before_an_invalid_record_raises_no_exception(joined) -> None:
    """The TLS engine has failed by then and refuses to write."""
    server, client = joined
    server.above.on_data = server.tls.write
    server.line.says(client.encrypted(b"good") + b"garbage that is no record at all")
    assert server.line.closed


def test_a_damaged_record_closes_the_connection(joined) -> None:
    server, client = joined
    record = bytearray(client.encrypted(b"payload"))
    record[-1] ^= 1
    server.line.says(bytes(record))
    assert server.above.received == b""
    assert server.line.closed
    assert len(server.above.losses) == 1


def test_a_connection_is_aborted_after_an_error_if_the_client_does_not_read(
    context, client_context
) -> None:
    """The gateway does not wait for a client that does not read the alert."""
    above = HalfCloseable()
    server = Server(context, above, room=100_000)
    client = Client(client_context, server.line)
    for _ in range(3):
        client.shake_hands()
        server.line.reads()
    above.transport.write(bytes(200_000))
    server.line.says(b"garbage that is no record at all")
    assert server.line.aborted
    server.line.says(bytes(10_000))
    assert server.tls._incoming.pending < 100


# --- Renegotiation ---


def renegotiating(context: ssl.SSLContext) -> tuple[Server, SSL.Connection]:
    """A client of TLS 1.2 that supports renegotiation, after its handshake."""
    server = Server(context, HalfCloseable())
    client_context = SSL.Context(SSL.TLSv1_2_METHOD)
    client_context.set_cipher_list(CIPHER)
    client = SSL.Connection(client_context, None)
    client.set_connect_state()
    taken = 0
    for _ in range(4):
        with suppress(SSL.WantReadError):
            client.do_handshake()
        with suppress(SSL.WantReadError):
            server.line.says(client.bio_read(65536))
        if server.line.received[taken:]:
            client.bio_write(bytes(server.line.received[taken:]))
            taken = len(server.line.received)
    assert server.handshakes == 1
    return server, client


def hello_again(client: SSL.Connection) -> bytes:
    client.renegotiate()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return bytes(client.bio_read(65536))


def test_a_renegotiation_is_refused_and_the_connection_continues(context: ssl.SSLContext) -> None:
    server, client = renegotiating(context)
    before = len(server.line.received)
    server.line.says(hello_again(client))
    refusal = bytes(server.line.received[before:])
    assert refusal[0] == 21
    assert server.handshakes == 1
    client.bio_write(refusal)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()
    assert not server.line.is_gone


def test_a_client_that_repeats_renegotiation_is_disconnected(context: ssl.SSLContext) -> None:
    """Otherwise the refusals for a client that does not read accumulate in memory."""
    server, client = renegotiating(context)
    encrypt = renegotiations(client, is_server=False)
    writes = len(server.line.writes)
    for _ in range(100):
        server.line.says(next(encrypt))
    assert server.line.is_gone
    assert len(server.line.writes) - writes < 10
    assert server.handshakes == 1
