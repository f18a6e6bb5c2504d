"""Connections to servers by TLS, over loopback: what is verified, sent, kept and reported."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol

from gateway.addresses import ServerAddress
from gateway.errors import UpstreamUnavailable
from gateway.logs import repeated
from gateway.protocols.limits import Limits
from gateway.upstreams.dial import Server, connect
from gateway.upstreams.group import Group
from gateway.upstreams.member import Member
from gateway.upstreams.pool import Pool
from gateway.upstreams.tls_client import ClientTLS, TLSFailed, client_context
from tests.helpers.logged import logged
from tests.upstreams.network import Network, connects_in_memory
from tests.upstreams.secure_servers import NAME, Certificates, SecureServer, named

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
_TIMEOUT_S = 2.0
ALERT = b"\x15\x03\x03\x00\x02\x02"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


class Client(Protocol):
    """The protocol inside TLS."""

    def __init__(self) -> None:
        self.received = b""
        self.losses: list[Any] = []
        self.ups = 0

    def connectionMade(self) -> None:
        self.ups += 1

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.losses.append(reason.value)


def dialled(
    network: Network,
    address: ServerAddress,
    tls: ClientTLS | ssl.SSLContext,
    proxy_protocol: str = "off",
    timeout_s: float = _TIMEOUT_S,
) -> Client:
    """A connection to the server. Raises ConnectError."""
    client = Client()
    made = tls if isinstance(tls, ClientTLS) else ClientTLS(tls)
    server = Server(address, proxy_protocol=proxy_protocol, tls=made)
    network.result_of(server.look_up(network.resolving))
    network.result_of(connect(network.reactor, server, client, timeout_s))
    return client


def failure(network: Network, address: ServerAddress, tls: Any, **options: Any) -> str:
    with pytest.raises(TLSFailed) as failed:
        dialled(network, address, tls, **options)
    return str(failed.value)


# --- Data ---


@both_versions
def test_data_passes_in_both_directions(
    network: Network, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    context = certificates.client()
    context.maximum_version = version
    client = dialled(network, named(server.address, network), context)
    transport: Any = client.transport
    transport.write(b"up")
    network.until(lambda: server.connections and server.connections[0].received == b"up")
    server.connections[0].transport.write(b"down")
    network.until(lambda: client.received == b"down")
    assert (transport.version, client.ups) == (version.name.replace("v1_", "v1."), 1)


def test_a_connection_keeps_nothing_of_its_connect(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    before = connects_in_memory()
    client = dialled(network, named(server.address, network), certificates.client())
    assert connects_in_memory() <= before
    assert client.ups == 1


def test_the_connection_that_loses_a_race_is_closed_during_its_handshake(
    network: Network, certificates: Certificates
) -> None:
    """One address of the server accepts connections, and does not answer."""
    server = SecureServer(network, certificates.server(NAME))
    port = server.address.port
    _, silent = raw_server(network, None, "127.0.0.2", port)
    network.names.hosts[NAME] = ["127.0.0.1", "127.0.0.2"]
    pool = pool_of(network, ServerAddress(NAME, port, "rtmps"), ClientTLS(certificates.client()))
    clients = [Client() for _ in range(3)]
    for client in clients:
        network.result_of(pool.connect(client))
    network.until(lambda: silent and all(each.is_lost for each in silent))
    assert len(silent) == 1
    assert [client.ups for client in clients] == [1, 1, 1]
    assert not any(client.losses for client in clients)
    assert pool.members[0].sessions == 3


@both_versions
def test_all_pending_data_is_delivered_before_close_notify_and_the_server_is_still_read(
    network: Network, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    context = certificates.client()
    context.maximum_version = version
    client = dialled(network, named(server.address, network), context)
    transport: Any = client.transport
    network.until(lambda: server.connections)
    (connection,) = server.connections
    data = bytes(range(256)) * 40_000
    transport.write(data)
    assert transport.unsent > 0
    transport.loseWriteConnection()
    transport.write(b"too late")
    network.until(lambda: connection.has_ended)
    assert connection.received == data
    connection.transport.write(b"answer")
    network.until(lambda: client.received == b"answer")
    connection.transport.loseConnection()
    network.until(lambda: client.losses)
    assert isinstance(client.losses[0], ConnectionDone)


def test_a_server_that_ends_its_stream_is_reported_at_once_despite_unsent_data(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    client = dialled(network, named(server.address, network), certificates.client())
    transport: Any = client.transport
    network.until(lambda: server.connections)
    (connection,) = server.connections
    connection.transport.stopReading()
    paused = []
    client.pauseProducing = lambda: paused.append(1)  # type: ignore[attr-defined]
    client.resumeProducing = client.stopProducing = lambda: None  # type: ignore[attr-defined]
    transport.registerProducer(client, True)
    transport.write(bytes(20_000_000))
    assert paused
    connection.transport.loseWriteConnection()
    network.until(lambda: client.losses)
    assert isinstance(client.losses[0], ConnectionDone)


# --- Verification ---


@pytest.mark.parametrize(
    ("names", "days", "cause"),
    [
        (["other.example"], (-1, 60), "its certificate is for other names"),
        ([NAME], (-9, -2), "its certificate has expired"),
        ([NAME], (2, 9), "its certificate is not valid yet"),
    ],
)
def test_a_certificate_that_is_not_valid_is_refused_with_its_cause(
    network: Network, certificates: Certificates, names: list[str], days: Any, cause: str
) -> None:
    server = SecureServer(network, certificates.server(*names, starts=days[0], ends=days[1]))
    address = named(server.address, network)
    assert failure(network, address, certificates.client()).startswith(f"{cause}; ")
    assert server.connections == []


def test_the_certificate_of_an_unknown_authority_is_refused(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    cause = failure(network, named(server.address, network), client_context())
    assert cause == "its certificate is of an unknown authority; name that in tls_authorities"


def test_a_common_name_is_not_compared(network: Network, certificates: Certificates) -> None:
    assert not certificates.client().hostname_checks_common_name


def test_a_listed_certificate_of_a_server_is_trusted(
    network: Network, certificates: Certificates
) -> None:
    path = certificates.file(NAME)
    server = SecureServer(network, server_of(path))
    pem = Path(path).read_text()
    own = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERT") :].split("\n-----BEGIN", 1)[0])
    dialled(network, named(server.address, network), client_context(own))


def server_of(path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_an_ip_address_is_verified_and_not_sent_as_a_name(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server("127.0.0.1"))
    dialled(network, server.address, certificates.client())
    other = SecureServer(network, certificates.server("127.0.0.2"))
    assert "for other names" in failure(network, other.address, certificates.client())
    assert server.names == [None]


def test_the_name_is_sent_without_a_final_dot(network: Network, certificates: Certificates) -> None:
    server = SecureServer(network, certificates.server(NAME))
    dialled(network, named(server.address, network, f"{NAME}."), certificates.client())
    assert server.names == [NAME]


def test_another_name_can_be_sent_and_verified(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    dialled(network, server.address, ClientTLS(certificates.client(), NAME))
    assert server.names == [NAME]


def test_without_verification_every_server_is_accepted(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server("other.example", starts=-9, ends=-2))
    dialled(network, named(server.address, network), client_context(verify=False))


# --- Certificates of the gateway ---


def demanding(certificates: Certificates, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The context of a server that requires a client's certificate."""
    context = certificates.server(NAME)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates.authorities)
    context.maximum_version = version
    return context


@both_versions
def test_the_gateways_certificate_is_sent_to_a_server_that_requires_one(
    network: Network, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = SecureServer(network, demanding(certificates, version))
    context = certificates.client(certificates.file("gateway.example"))
    client = dialled(network, named(server.address, network), context)
    network.until(lambda: server.connections)
    server.connections[0].transport.write(b"welcome")
    network.until(lambda: client.received)


def test_a_missing_certificate_is_a_failed_connect_in_tls_1_2(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, demanding(certificates, ssl.TLSVersion.TLSv1_2))
    cause = failure(network, named(server.address, network), certificates.client())
    assert cause == "it refuses the handshake; it may require a client's certificate"


def test_a_missing_certificate_is_one_warning_in_tls_1_3(
    network: Network, certificates: Certificates
) -> None:
    """The server reads the client's certificate after the client's end of the handshake."""
    server = SecureServer(network, demanding(certificates, ssl.TLSVersion.TLSv1_3))
    address = named(server.address, network)
    repeated._causes.clear()
    with logged() as lines:
        for _ in range(3):
            client = dialled(network, address, certificates.client())
            network.until(lambda client=client: client.losses)
    (line,) = [line for line in lines if "upstream" in line]
    assert line == (
        f"warn: upstream {address} ends the connection: it requires a client's certificate;"
        " set tls_certificate"
    )


# --- Resumption ---


@pytest.mark.parametrize(
    ("version", "tickets"),
    [
        (ssl.TLSVersion.TLSv1_2, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
    ids=["1.2 by its id", "1.2 by a ticket", "1.3"],
)
def test_a_session_is_resumed_by_later_connections(
    network: Network, certificates: Certificates, version: ssl.TLSVersion, tickets: bool
) -> None:
    context = certificates.server(NAME)
    if tickets:
        context.options &= ~ssl.OP_NO_TICKET
        context.num_tickets = 2
    server = SecureServer(network, context)
    client = certificates.client()
    client.maximum_version = version
    pool = pool_of(network, named(server.address, network), ClientTLS(client))
    for number in range(1, 4):
        made = Client()
        network.result_of(pool.connect(made))
        network.until(lambda number=number: len(server.connections) == number)
        # What the server says, as after each RTMP handshake.
        server.connections[-1].transport.write(b"S0")
        network.until(lambda made=made: made.received)
    assert [each.reused for each in server.connections] == [False, True, True]


def test_no_session_is_resumed_with_other_certificates(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server(NAME))
    first = certificates.client()
    first.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = ClientTLS(first)
    pool = pool_of(network, named(server.address, network), tls)
    network.result_of(pool.connect(Client()))
    tls.context = certificates.client()
    network.result_of(pool.connect(Client()))
    assert [each.reused for each in server.connections] == [False, False]


# --- Failures ---


def pool_of(network: Network, *items: Any, limits: Limits | None = None) -> Pool:
    """A pool of these servers, with the last item for their TLS."""
    *addresses, tls = items
    members = [Member(Server(address, tls=tls), lambda: network.now) for address in addresses]
    return network.pool_of(Group(members), limits=limits)


def test_the_next_server_is_tried_if_a_certificate_is_refused_with_one_line_for_the_outage(
    network: Network, certificates: Certificates
) -> None:
    expired = SecureServer(network, certificates.server(NAME, starts=-9, ends=-2))
    valid = SecureServer(network, certificates.server("other.example"))
    addresses = named(expired.address, network), named(valid.address, network, "other.example")
    pool = pool_of(network, *addresses, ClientTLS(certificates.client()))
    with logged() as lines:
        for _ in range(3):
            assert network.result_of(pool.connect(Client())) == str(addresses[1])
            network.now += 60
    (line,) = [line for line in lines if "upstream" in line]
    assert line == f"warn: upstream {addresses[0]} is down: its certificate has expired; renew it"
    # Those that were never established are not counted.
    assert [each.sessions for each in pool.members] == [0, 3]


class Raw(Protocol):
    """A server without TLS: it says ``answer``, and closes the connection if that is empty."""

    received = b""
    is_lost = False
    answer: bytes | None = None
    all: list[Raw]

    def connectionMade(self) -> None:
        self.all.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        transport: Any = self.transport
        if self.answer:
            transport.write(self.answer)
        elif self.answer is not None:
            transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True


def raw_server(
    network: Network, answer: bytes | None, host: str = "127.0.0.1", number: int = 0
) -> tuple[ServerAddress, list[Raw]]:
    made: list[Raw] = []
    kind = type("Answering", (Raw,), {"answer": answer, "all": made})
    return network.listen(Factory.forProtocol(kind), "rtmps", host, number), made


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"\x03" + bytes(3072), "it does not speak TLS"),
        (b"", "it closes the connection during the TLS handshake"),
        # Fatal alerts (RFC 8446, 6).
        (ALERT + b"\x50", "TLS handshake failed: TLSV1_ALERT_INTERNAL_ERROR"),
        (ALERT + b"\x46", "it does not speak TLS 1.2 or 1.3"),
        (ALERT + b"\x70", "it does not know the name; set tls_server_name"),
        (ALERT + b"\x30", "it refuses the client's certificate; check tls_certificate"),
    ],
)
def test_a_server_that_does_not_complete_the_handshake_is_a_failed_connect(
    network: Network, certificates: Certificates, answer: bytes, cause: str
) -> None:
    address, _ = raw_server(network, answer)
    assert failure(network, address, certificates.client()) == cause


def test_a_handshake_has_the_deadline_of_the_connect(
    network: Network, certificates: Certificates
) -> None:
    silent, connections = raw_server(network, None)
    valid = SecureServer(network, certificates.server(NAME))
    pool = pool_of(
        *(network, silent, named(valid.address, network), ClientTLS(certificates.client())),
        limits=Limits(upstream_connect_s=0.2),
    )
    with logged() as lines:
        assert network.result_of(pool.connect(Client())) == f"rtmps://{NAME}:{valid.address.port}"
    assert any("it does not complete the TLS handshake in time" in line for line in lines)
    assert connections[0].received[:1] == b"\x16"


def test_an_established_connection_outlives_the_deadline_of_the_connect(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server("127.0.0.1"))
    client = dialled(network, server.address, certificates.client(), timeout_s=0.1)
    over: list[int] = []
    network.reactor.callLater(0.15, over.append, 1)
    network.until(lambda: over)
    assert client.losses == []


class Dripping(Protocol):
    """A server that sends a record of its handshake a byte at a time."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(b"\x16\x03\x03\x40\x00\x02\x00\x3f\x00")
        self._drip()

    def _drip(self) -> None:
        transport: Any = self.transport
        transport.write(b"\x00")
        if transport.connected:
            transport.reactor.callLater(0.01, self._drip)


def test_a_byte_at_a_time_does_not_extend_the_deadline_of_a_handshake(network: Network) -> None:
    address = network.listen(Factory.forProtocol(Dripping), "rtmps")
    began = network.reactor.seconds()
    assert "in time" in failure(network, address, client_context(), timeout_s=0.3)
    assert network.reactor.seconds() - began < 2


def test_the_proxy_header_precedes_the_handshake(
    network: Network, certificates: Certificates
) -> None:
    address, connections = raw_server(network, b"")
    failure(network, address, certificates.client(), proxy_protocol="v1")
    received = connections[0].received
    head, _, rest = received.partition(b"\r\n")
    assert head == b"PROXY UNKNOWN"
    assert rest[:1] == b"\x16"


def test_an_unavailable_server_leaves_the_client_untouched(
    network: Network, certificates: Certificates
) -> None:
    server = SecureServer(network, certificates.server("other.example"))
    pool = pool_of(network, named(server.address, network), ClientTLS(certificates.client()))
    client = Client()
    with pytest.raises(UpstreamUnavailable):
        network.result_of(pool.connect(client))
    assert (client.ups, client.losses) == (0, [])
