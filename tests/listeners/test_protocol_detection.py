"""From accepting a connection to its protocol: refusals, detection, timeouts, counts."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
import trustme
from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from gateway.listeners.connections import ConnectionSet
from gateway.listeners.protocol_detection import Listener, ListenerState
from gateway.protocols.limits import Limits
from gateway.protocols.networks import Admission, Networks
from gateway.tls import TLSConnection
from tests.helpers.line import Line
from tests.helpers.logged import logged
from tests.helpers.own_count import OwnCount

HTTP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
RTMP = b"\x03" + bytes(1536)
LIMITS = Limits()
V1 = b"PROXY TCP4 198.51.100.7 192.0.2.9 50000 80\r\n"
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V2 = V2_SIGNATURE + bytes.fromhex("21 11 000c c6336407 c0000209 c350 0050")
V2_LOCAL = V2_SIGNATURE + bytes.fromhex("20 00 0000")
PROXY = "10.0.0.1"


class Taker:
    """A substitute for the HTTP connection, which takes over a connection."""

    def __init__(self, doorway: Doorway, address: str, secure: bool) -> None:
        self._doorway = doorway
        self.address = address
        self.secure = secure
        self.deadline = float("inf")
        self.received = b""
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._doorway.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object) -> None:
        self._doorway.connections.remove(self)


class Relayed:
    def __init__(
        self, address: str, transport: Any, first: bytes, left: Callable[[], None]
    ) -> None:
        self.address = address
        self.transport = transport
        self.received = first
        self._left = left

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object) -> None:
        self._left()


class Doorway:
    """A listener without a socket, and its clock."""

    def __init__(self, limits: Limits = LIMITS, **settings: Any) -> None:
        self.now = 1000.0
        self.connections = ConnectionSet(limits, OwnCount())
        self.http: list[Taker] = []
        self.relayed: list[Relayed] = []
        self.refuses_relays = False
        listener_state = ListenerState(
            limits,
            self.connections,
            self._take_http,
            self._relay,
            lambda: self.now,
            Admission.of([], []),
            Networks.of([]),
        )
        self.listener_state = evolve(listener_state, **settings)
        self.listener = Listener(self.listener_state)
        self.lines: list[Line] = []

    def _take_http(self, address: str, secure: bool, first: bytes) -> Taker:
        self.http.append(Taker(self, address, secure))
        return self.http[-1]

    def _relay(self, address: str, transport: Any, first: bytes, left: Callable[[], None]) -> None:
        if self.refuses_relays:
            transport.abortConnection()
            return
        self.relayed.append(Relayed(address, transport, first, left))
        transport.protocol = self.relayed[-1]

    def accept(self, host: str = "192.0.2.1") -> Line | None:
        return self.accept_from(IPv4Address("TCP", host, 50000))

    def accept_from(self, peer: object) -> Line | None:
        entry = self.listener.buildProtocol(peer)
        if entry is None:
            return None
        self.lines.append(Line().connect(entry))
        return self.lines[-1]

    def passes(self, seconds: float) -> None:
        """Advance the clock; sweep every 50 ms."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.05, until)
            self.connections.sweep(self.now)
            for line in self.lines:
                line.turn()

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.listener_state.counts)


def behind_proxy(limits: Limits = LIMITS, **settings: Any) -> Doorway:
    trusted = Networks.of([ip_network("10.0.0.0/8")])
    return Doorway(limits, proxy_protocol=True, trusted=trusted, **settings)


@pytest.fixture
def secure(context: ssl.SSLContext) -> Doorway:
    return Doorway(context=lambda _: context)


class TLSClient:
    def __init__(self, authority: trustme.CA, line: Line) -> None:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        self.line = line
        self._down, self._up = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._down, self._up, server_hostname="a.example")

    def hello(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._up.read()

    def finish(self) -> bytes:
        self._down.write(bytes(self.line.received))
        self.tls.do_handshake()
        return self._up.read()

    def encrypted(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._up.read()


# --- Protocols ---


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_an_http_connection_is_passed_to_http_with_all_its_bytes(step: int) -> None:
    doorway = Doorway()
    line = doorway.accept()
    for start in range(0, len(HTTP), step):
        line.says(HTTP[start : start + step])
    (taker,) = doorway.http
    assert (taker.received, taker.address, taker.secure) == (HTTP, "192.0.2.1", False)
    assert taker.transport is line
    assert doorway.counts == {"http": 1}


@pytest.mark.parametrize("version", [3, 6, 8, 9])
def test_rtmp_and_rtmpe_connections_are_passed_to_a_relay_with_all_their_bytes(
    version: int,
) -> None:
    doorway = Doorway()
    line = doorway.accept()
    line.says(bytes([version]) + bytes(100))
    line.says(b"more")
    (relayed,) = doorway.relayed
    assert relayed.received == bytes([version]) + bytes(100) + b"more"
    assert relayed.address == "192.0.2.1"
    assert doorway.counts == {"rtmp": 1}


@pytest.mark.parametrize("words", [b"SSH-2.0-x\r\n", bytes(10), b"\x16\x03\x01\x00\x80\x01", b"{"])
def test_a_connection_of_an_unknown_protocol_is_closed_without_an_answer(words: bytes) -> None:
    doorway = Doorway()
    line = doorway.accept()
    line.says(words)
    assert line.aborted
    assert line.received == b""
    assert doorway.counts == {"unknown": 1}
    assert len(doorway.connections) == 0


@pytest.mark.parametrize(("inside", "name"), [(HTTP, "http"), (RTMP, "rtmp")])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_the_protocol_inside_tls_is_detected_again(secure, authority, inside, name, step) -> None:
    line = secure.accept()
    client = TLSClient(authority, line)

    def says(data: bytes) -> None:
        for start in range(0, len(data), step):
            line.says(data[start : start + step])

    says(client.hello())
    says(client.finish())
    says(client.encrypted(inside))
    (taker,) = secure.http or secure.relayed
    assert (taker.received, taker.address) == (inside, "192.0.2.1")
    assert isinstance(taker.transport, TLSConnection)
    assert secure.counts == {"tls": 1, name: 1}
    assert len(secure.connections) == 1
    line.resets()
    assert len(secure.connections) == 0


def test_an_http_connection_inside_tls_is_marked_as_secure(
    secure: Doorway, authority: trustme.CA
) -> None:
    line = secure.accept()
    client = TLSClient(authority, line)
    line.says(client.hello())
    line.says(client.finish() + client.encrypted(HTTP))
    assert secure.http[0].secure


@pytest.mark.parametrize("words", [HTTP, RTMP])
def test_a_listener_with_certificates_accepts_plain_protocols_too(
    secure: Doorway, words: bytes
) -> None:
    line = secure.accept()
    line.says(words)
    assert (secure.http or secure.relayed)[0].received == words


def test_tls_inside_tls_is_an_unknown_protocol(secure: Doorway, authority: trustme.CA) -> None:
    line = secure.accept()
    client = TLSClient(authority, line)
    line.says(client.hello())
    line.says(client.finish() + client.encrypted(TLSClient(authority, line).hello()))
    assert line.aborted
    assert secure.counts == {"tls": 1, "unknown": 1}
    assert len(secure.connections) == 0


# --- Counts ---


@pytest.mark.parametrize("end", ["ends", "resets"])
def test_a_client_that_leaves_without_data_is_counted(end: str) -> None:
    doorway = Doorway()
    line = doorway.accept()
    getattr(line, end)()
    assert doorway.counts == {"left": 1}
    assert len(doorway.connections) == 0


@pytest.mark.parametrize("words", [HTTP, RTMP])
def test_a_connection_stays_counted_until_it_is_lost(words: bytes) -> None:
    doorway = Doorway()
    line = doorway.accept()
    line.says(words)
    assert len(doorway.connections) == 1
    line.resets()
    assert len(doorway.connections) == 0
    assert not doorway.connections._counted._per_address


def test_a_refused_relay_is_removed_from_the_count_once() -> None:
    doorway = Doorway(Limits(connections_per_address=1))
    doorway.refuses_relays = True
    for _ in range(3):
        line = doorway.accept()
        line.says(RTMP)
        assert line.aborted
    assert doorway.counts == {"rtmp": 3}
    assert not doorway.connections._counted._per_address


def test_a_handshake_that_fails_is_counted_once(secure: Doorway) -> None:
    line = secure.accept()
    line.says(b"\x16\x03\x01\x00\x05\x01hello and no more")
    assert line.is_gone
    assert secure.counts == {"tls_failed": 1}
    assert len(secure.connections) == 0


# --- Debug lines ---


def debug_lines(doorway: Doorway, said: bytes, end: str = "") -> list[str]:
    """The debug lines of a connection; there must be no line at other levels."""
    with logged() as without:
        converse(doorway, said, end)
    assert without == []
    with logged(debug=True) as lines:
        converse(doorway, said, end)
    return [line.removeprefix("debug: connection from 192.0.2.1 on 0.0.0.0:80: ") for line in lines]


def converse(doorway: Doorway, said: bytes, end: str) -> None:
    line = doorway.accept()
    if line is not None and said:
        line.says(said)
    if end == "silence":
        doorway.passes(LIMITS.first_bytes_s + LIMITS.tls_handshake_s + 1)
    elif end:
        getattr(line, end)()


@pytest.mark.parametrize(
    ("said", "end", "words"),
    [
        (HTTP, "", "speaks http"),
        (RTMP, "", "speaks rtmp"),
        (b"SSH-2.0-x", "", "closed: its first bytes are no protocol of this listener"),
        (b"", "silence", "closed: it sent nothing in time"),
        (b"", "resets", "closed before its protocol was known"),
    ],
)
def test_a_connection_has_a_debug_line_with_its_protocol(said: bytes, end: str, words: str) -> None:
    assert debug_lines(Doorway(name="0.0.0.0:80"), said, end) == [words]


def test_a_connection_that_is_not_admitted_has_a_debug_line() -> None:
    denied = Admission.of([], [ip_network("192.0.2.0/24")])
    doorway = Doorway(name="0.0.0.0:80", admission=denied)
    assert debug_lines(doorway, b"") == ["refused: denied"]


@pytest.mark.parametrize(
    ("said", "end", "words"),
    [
        (b"\x16\x03\x01\x00\x05\x01hello and no more", "", "[A-Z_]{10,}"),
        (b"\x16\x03\x01\x00\x50\x01\x00", "silence", "the client took too long"),
        (b"\x16\x03\x01\x00\x50\x01\x00", "resets", "Connection .*lost.*"),
    ],
)
def test_a_failed_handshake_has_a_debug_line_with_its_reason(
    context: ssl.SSLContext, said: bytes, end: str, words: str
) -> None:
    doorway = Doorway(name="0.0.0.0:80", context=lambda _: context)
    (line,) = debug_lines(doorway, said, end)
    assert re.fullmatch(f"TLS handshake failed: {words}", line)


def test_a_handshake_and_the_protocol_inside_have_debug_lines(
    context: ssl.SSLContext, authority: trustme.CA
) -> None:
    doorway = Doorway(name="0.0.0.0:80", context=lambda _: context)
    with logged(debug=True) as lines:
        line = doorway.accept()
        assert line is not None
        client = TLSClient(authority, line)
        line.says(client.hello())
        line.says(client.finish() + client.encrypted(HTTP))
    assert lines == [
        "debug: connection from 192.0.2.1 on 0.0.0.0:80: TLS handshake done",
        "debug: connection from 192.0.2.1 on 0.0.0.0:80 in TLS: speaks http",
    ]


# --- Deadlines ---


@pytest.mark.parametrize("words", [b"", b"G", b"PO", b"\x16\x03", b"<policy-file-request/>"])
def test_a_connection_without_its_first_bytes_is_aborted_at_the_limit(words: bytes) -> None:
    doorway = Doorway()
    line = doorway.accept()
    if words:
        line.says(words)
    doorway.passes(LIMITS.first_bytes_s - 0.1)
    assert not line.aborted
    doorway.passes(0.1)
    assert line.aborted
    assert line.received == b""
    assert doorway.counts == {"silent": 1}
    assert len(doorway.connections) == 0


def test_a_proxy_header_sent_at_one_byte_a_second_is_aborted_at_the_limit() -> None:
    doorway = behind_proxy()
    line = doorway.accept(PROXY)
    for number in range(int(LIMITS.first_bytes_s)):
        line.says(V1[number : number + 1])
        doorway.passes(1)
    assert line.aborted
    assert doorway.counts == {"silent": 1}


def test_a_tls_handshake_sent_at_one_byte_a_second_is_aborted_at_the_limit(
    secure, authority
) -> None:
    line = secure.accept()
    hello = TLSClient(authority, line).hello()
    line.says(hello[:6])
    for number in range(int(LIMITS.tls_handshake_s)):
        assert not line.aborted
        line.says(hello[6 + number : 7 + number])
        secure.passes(1)
    assert line.aborted
    assert secure.counts == {"tls_failed": 1}
    assert len(secure.connections) == 0


def test_the_first_bytes_inside_tls_have_their_own_time_limit(secure, authority) -> None:
    line = secure.accept()
    client = TLSClient(authority, line)
    line.says(client.hello())
    secure.passes(LIMITS.tls_handshake_s - 1)
    line.says(client.finish() + client.encrypted(b"G"))
    secure.passes(LIMITS.first_bytes_s - 0.1)
    assert not line.aborted
    secure.passes(0.2)
    assert line.aborted
    assert secure.counts == {"tls": 1, "silent": 1}


def test_a_connection_with_a_known_protocol_has_no_deadline_for_detection() -> None:
    doorway = Doorway()
    lines = [doorway.accept(), doorway.accept()]
    lines[0].says(HTTP)
    lines[1].says(RTMP)
    doorway.passes(100)
    assert [line.is_gone for line in lines] == [False, False]


# --- Admission ---


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::1"),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 1), "192.0.2.1"),
        (IPv6Address("TCP", "::ffff:1", 1), "::ffff:1"),
        (UNIXAddress(b"/run/a"), ""),
        (UNIXAddress(None), ""),
    ],
)
def test_a_connection_has_the_address_of_its_peer(peer: object, address: str) -> None:
    doorway = Doorway()
    doorway.accept_from(peer).says(HTTP)
    assert doorway.http[0].address == address


def test_a_connection_over_a_limit_is_refused_and_counted() -> None:
    doorway = Doorway(Limits(connections=3, connections_per_address=2))
    taken = [doorway.accept(f"192.0.2.{number}") for number in (1, 1, 1, 2, 3)]
    assert [line is not None for line in taken] == [True, True, False, True, False]
    assert doorway.counts == {"full": 2}
    taken[0].resets()
    assert doorway.accept("192.0.2.3") is not None


def test_networks_that_are_denied_or_not_allowed_are_refused() -> None:
    rules = Admission.of([ip_network("192.0.2.0/24")], [ip_network("192.0.2.128/25")])
    doorway = Doorway(admission=rules)
    taken = [doorway.accept(host) for host in ("192.0.2.1", "192.0.2.200", "198.51.100.1")]
    assert [line is not None for line in taken] == [True, False, False]
    assert doorway.counts == {"denied": 2}


# --- Behind a proxy ---


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("words", [HTTP, RTMP], ids=["http", "rtmp"])
@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_the_proxy_header_is_read_in_any_segmentation(header, words, step) -> None:
    doorway = behind_proxy()
    line = doorway.accept(PROXY)
    said = header + words
    for start in range(0, len(said), step):
        line.says(said[start : start + step])
    (taker,) = doorway.http or doorway.relayed
    assert (taker.address, taker.received) == ("198.51.100.7", words)
    line.resets()
    assert not doorway.connections._counted._per_address


def test_the_proxy_header_is_read_before_tls(context, authority) -> None:
    doorway = behind_proxy(context=lambda _: context)
    line = doorway.accept(PROXY)
    client = TLSClient(authority, line)
    line.says(V2 + client.hello())
    line.says(client.finish() + client.encrypted(HTTP))
    assert (doorway.http[0].address, doorway.http[0].received) == ("198.51.100.7", HTTP)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2_LOCAL], ids=["v1", "v2"])
def test_a_proxy_header_without_a_client_address_leaves_the_proxys_address(header: bytes) -> None:
    doorway = behind_proxy()
    doorway.accept(PROXY).says(header + HTTP)
    assert doorway.http[0].address == PROXY


@pytest.mark.parametrize("words", [HTTP, RTMP, b"PROXY nonsense\r\n", V2[:13] + b"\x99" + V2[14:]])
def test_a_connection_without_a_valid_proxy_header_is_aborted_and_counted(words: bytes) -> None:
    doorway = behind_proxy()
    line = doorway.accept(PROXY)
    line.says(words)
    assert line.aborted
    assert line.received == b""
    assert doorway.counts == {"bad_proxy_header": 1}
    assert len(doorway.connections) == 0


def test_a_proxy_header_of_an_untrusted_peer_is_not_read() -> None:
    doorway = behind_proxy()
    assert doorway.accept("192.0.2.1") is None
    assert doorway.counts == {"untrusted_proxy": 1}


def test_a_proxy_header_on_another_listener_is_an_unknown_protocol() -> None:
    """A PROXY header is never detected: ``PROXY `` can be the method of a client's request."""
    doorway = Doorway()
    doorway.accept().says(V2 + HTTP)
    assert doorway.counts == {"unknown": 1}
    doorway.accept().says(V1 + HTTP)
    assert doorway.http[0].received == V1 + HTTP


def test_rules_and_limits_apply_to_the_client_and_not_to_its_proxy() -> None:
    rules = Admission.of([], [ip_network("198.51.100.0/24")])
    doorway = behind_proxy(Limits(connections_per_address=1), admission=rules)
    denied = doorway.accept(PROXY)
    denied.says(V1 + HTTP)
    assert denied.aborted
    for host in (b"203.0.113.1", b"203.0.113.2", b"203.0.113.1"):
        doorway.accept(PROXY).says(V1.replace(b"198.51.100.7", host) + HTTP)
    assert [taker.address for taker in doorway.http] == ["203.0.113.1", "203.0.113.2"]
    assert doorway.counts == {"denied": 1, "http": 2, "full": 1}
    assert doorway.connections._counted._per_address == {"203.0.113.1": 1, "203.0.113.2": 1}


def test_the_limit_on_all_connections_applies_before_the_proxy_header() -> None:
    doorway = behind_proxy(Limits(connections=1))
    assert doorway.accept(PROXY) is not None
    assert doorway.accept(PROXY) is None


def test_a_proxy_header_on_a_unix_socket_is_trusted() -> None:
    """The owner and the mode of the socket file determine who may connect."""
    doorway = behind_proxy()
    doorway.accept_from(UNIXAddress(None)).says(V1 + HTTP)
    assert doorway.http[0].address == "198.51.100.7"


# --- Trusted HTTP proxies ---


def test_connections_of_a_trusted_proxy_count_only_against_the_limit_on_all() -> None:
    limits = Limits(connections=3, connections_per_address=1)
    doorway = Doorway(limits, trusted=Networks.of([ip_network("10.0.0.0/8")]))
    assert [doorway.accept("10.0.0.1") is not None for _ in range(4)] == [True, True, True, False]


def test_a_trusted_proxy_is_accepted_despite_deny() -> None:
    doorway = Doorway(
        trusted=Networks.of([ip_network("10.0.0.0/8")]),
        admission=Admission.of([ip_network("192.0.2.0/24")], []),
    )
    line = doorway.accept("10.0.0.1")
    assert line is not None
    line.says(b"GET / HTTP/1.1\r\n")
    assert doorway.counts == {"http": 1}


def test_rtmp_from_a_trusted_proxy_is_admitted_by_the_proxys_own_address() -> None:
    doorway = Doorway(
        trusted=Networks.of([ip_network("10.0.0.0/8")]),
        admission=Admission.of([ip_network("192.0.2.0/24")], []),
    )
    line = doorway.accept("10.0.0.1")
    assert line is not None
    line.says(RTMP)
    assert doorway.counts == {"denied": 1}
    assert not doorway.relayed


# --- Policy of sockets ---


@pytest.mark.parametrize("step", [1, 23])
def test_a_request_for_the_policy_of_sockets_is_answered_and_the_connection_closed(
    step: int,
) -> None:
    doorway = Doorway(socket_policy=lambda: b"<policy/>\0")
    line = doorway.accept()
    assert line is not None
    request = b"<policy-file-request/>\0"
    for start in range(0, len(request), step):
        line.says(request[start : start + step])
    assert bytes(line.received) == b"<policy/>\0"
    line.turn()
    assert line.ended
    assert not line.aborted
    assert doorway.counts == {"policy": 1}


def test_without_a_policy_its_request_is_an_unknown_protocol() -> None:
    doorway = Doorway()
    line = doorway.accept()
    assert line is not None
    line.says(b"<policy-file-request/>\0")
    line.turn()
    assert line.aborted
    assert doorway.counts == {"unknown": 1}


def test_a_client_that_does_not_read_the_policy_is_aborted_at_the_limit() -> None:
    doorway = Doorway(socket_policy=lambda: b"<policy/>\0")
    line = Line(room=0).connect(doorway.listener.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
    doorway.lines.append(line)
    line.says(b"<policy-file-request/>\0")
    doorway.passes(LIMITS.first_bytes_s + 0.1)
    assert line.aborted
    assert doorway.counts == {"policy": 1}
