"""Forwarding of HTTP requests to the website: in order, and within limits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from gateway.addresses import ServerAddress
from gateway.errors import ConfigurationError
from gateway.listeners.forwarding import Website
from gateway.listeners.http import HTTPConnection
from gateway.protocols.limits import Limits
from gateway.upstreams.website_connections import WebsiteConnections
from tests.helpers.http_conversation import HOLD_S, Gateway, Wire
from tests.protocols.malformed import MALFORMED, NEXT, Malformed

GET = b"GET /page HTTP/1.1\r\nHost: site\r\n\r\n"
GET_10 = b"GET /page HTTP/1.0\r\nHost: site\r\n\r\n"
POST = b"POST /page HTTP/1.1\r\nHost: site\r\nContent-Length: 5\r\n\r\n"
UPLOAD = b"POST /page HTTP/1.1\r\nHost: site\r\nTransfer-Encoding: chunked\r\n\r\n"
SOCKET = b"GET /ws HTTP/1.1\r\nHost: site\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FORWARDED = (
    b"X-Forwarded-Proto: http\r\nForwarded: for=192.0.2.1;proto=http\r\n"
    b"X-Forwarded-For: 192.0.2.1\r\n"
)
HEAD_UP = b"GET /page HTTP/1.1\r\nHost: site\r\n" + FORWARDED + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
IDENT = b"POST /fcs/ident2 HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n"
OPEN = b"POST /open/1 HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n"


class WebWire(Wire):
    """A wire that records the bytes sent."""

    @property
    def sent(self) -> bytes:
        """The bytes sent since the last call."""
        sent, self.writes = b"".join(self.writes), []
        return sent

    def breaks(self) -> None:
        """The peer resets the connection."""
        self.lost = True
        self.protocol.connectionLost(Failure(error.ConnectionLost()))


@define
class Server:
    """The website's server, played by the test. A connect's outcome is the next of ``outcomes``, if any."""

    wires: list[WebWire] = field(factory=list)
    outcomes: list[Any] = field(factory=list)
    hosts: list[str] = field(factory=list)

    def connect(
        self, reactor: Any, host: str, port: int, protocol: Any, timeout_s: float
    ) -> Deferred[None]:
        self.hosts.append(host)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            return fail(outcome)
        wire = WebWire()
        wire.protocol = protocol
        protocol.makeConnection(wire)
        self.wires.append(wire)
        return succeed(None) if outcome is None else outcome

    @property
    def wire(self) -> WebWire:
        return self.wires[-1]


@define
class Names:
    """A reactor's resolver that knows these addresses."""

    known: list[str]

    @property
    def nameResolver(self) -> Names:
        return self

    def resolveHostName(self, receiver: Any, host: str) -> None:
        for address in self.known:
            receiver.addressResolved(IPv4Address("TCP", address, 0))
        receiver.resolutionComplete()


def serve(gateway: Gateway, server: Server, *hosts: str) -> WebsiteConnections:
    """Give the gateway a website whose name stands for ``hosts``."""
    names = Names(list(hosts) or ["198.51.100.7"])
    address = ServerAddress("web", 80)
    web = WebsiteConnections(names, address, gateway.limits, gateway.clock, server.connect)
    Deferred.fromCoroutine(web.look_up())
    gateway.service.website = Website(web, gateway.limits, gateway.clock)
    return web


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def server(gateway: Gateway) -> Server:
    server = Server()
    serve(gateway, server)
    return server


@pytest.fixture
def wire(gateway: Gateway, server: Server) -> WebWire:
    return accept(gateway)


def accept(gateway: Gateway, secure: bool = False) -> WebWire:
    wire = WebWire()
    wire.protocol = HTTPConnection(gateway.service, "192.0.2.1", secure)
    wire.protocol.makeConnection(wire)
    return wire


# --- Request by request ---


def test_a_request_is_forwarded_to_the_server_and_the_response_to_the_client(
    wire, server, gateway
) -> None:
    wire.arrive(GET)
    assert server.wire.sent == HEAD_UP
    server.wire.arrive(OK)
    assert wire.sent == OK
    gateway.turn()
    assert not wire.closing


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (GET, FORWARDED + b"\r\n"),
        (POST + b"hello", b"Content-Length: 5\r\n\r\nhello"),
        (UPLOAD + b"2\r\nhi\r\n0\r\n\r\n", b"\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"),
    ],
)
def test_a_request_that_arrives_byte_by_byte_is_forwarded(
    wire, server, sent: bytes, end: bytes
) -> None:
    for i in range(len(sent)):
        wire.arrive(sent[i : i + 1])
    assert server.wire.sent.endswith(end)


def test_a_response_that_arrives_byte_by_byte_is_forwarded(wire, server) -> None:
    wire.arrive(GET)
    for i in range(len(OK)):
        server.wire.arrive(OK[i : i + 1])
    assert wire.sent == OK


def test_one_connection_carries_commands_and_requests_for_the_website(
    wire, server, gateway
) -> None:
    wire.arrive(GET)
    server.wire.arrive(OK)
    gateway.turn()
    wire.arrive(IDENT)
    gateway.turn()
    wire.arrive(GET)
    server.wire.arrive(OK)
    assert wire.sent == OK + NOT_FOUND + OK
    assert len(server.wires) == 1


def test_pipelined_requests_are_forwarded_one_at_a_time_and_answered_in_order(
    wire, server, gateway
) -> None:
    wire.arrive(GET + IDENT + GET + IDENT)
    assert server.wire.sent == HEAD_UP
    assert wire.sent == b""
    server.wire.arrive(OK)
    gateway.turn()
    assert wire.sent == OK + NOT_FOUND
    assert server.wire.sent == HEAD_UP
    server.wire.arrive(OK)
    gateway.turn()
    assert wire.sent == OK + NOT_FOUND


def test_a_request_is_forwarded_only_after_every_earlier_answer_is_written(
    wire, server, gateway
) -> None:
    gateway.dialling = True
    wire.arrive(OPEN + GET)
    assert server.wires == []
    gateway.connects()
    assert server.wire.sent == HEAD_UP
    server.wire.arrive(OK)
    assert wire.sent.endswith(OK)


@given(
    asked=st.lists(st.sampled_from(["page", "ident", "open", "idle"]), max_size=8),
    step=st.integers(1, 300),
    chance=st.randoms(use_true_random=False),
)
def test_any_pipelined_commands_and_requests_are_answered_in_order(asked, step, chance) -> None:
    gateway, server = Gateway(), Server()
    serve(gateway, server)
    wire = accept(gateway)
    wire.arrive(OPEN)
    session_id = wire.sent.splitlines()[-1]
    gateway.dialling = True
    said = b"".join(_asking(kind, session_id, asked[:place]) for place, kind in enumerate(asked))
    pages = count()
    for start in range(0, len(said), step):
        wire.arrive(said[start : start + step])
        if chance.random() < 0.5:
            _go_on(gateway, server, pages, chance)
    for _ in range(3 * len(asked)):
        _go_on(gateway, server, pages, chance)
        gateway.passes(HOLD_S)
    assert _kinds(wire.sent) == asked


def _asking(kind: str, session_id: bytes, before: list[str]) -> bytes:
    if kind == "idle":
        target = b"/idle/%b/%d" % (session_id, before.count("idle"))
        return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0" % target
    return {"page": GET, "ident": IDENT, "open": OPEN}[kind]


def _go_on(gateway: Gateway, server: Server, pages: Iterator[int], chance: Random) -> None:
    """Let one awaited server answer: a media server or the website."""
    asked = [wire for wire in server.wires if wire.sent]
    if gateway.dials and (not asked or chance.random() < 0.5):
        gateway.connects()
    for wire in asked:
        wire.arrive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npage%d" % next(pages))
    gateway.turn()


def _kinds(sent: bytes) -> list[str]:
    """The kinds of the answers; checks by their numbers that pages are in order."""
    kinds: list[str] = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        body, sent = sent[:length], sent[length:]
        if body.startswith(b"page"):
            assert body == b"page%d" % kinds.count("page")
            kinds.append("page")
        else:
            kinds.append({0: "ident", 1: "idle"}.get(length, "open"))
    return kinds


def test_a_request_for_the_website_ends_the_hold_of_an_earlier_idle(wire, server, gateway) -> None:
    wire.arrive(OPEN)
    session_id = wire.sent.splitlines()[-1]
    wire.arrive(b"POST /idle/%b/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0" % session_id)
    assert wire.sent == b""
    wire.arrive(GET)
    gateway.turn()
    assert wire.sent.endswith(b"\r\n\r\n\x01")
    assert server.wire.sent == HEAD_UP


def test_without_a_website_other_requests_get_404(gateway) -> None:
    wire = gateway.accept()
    wire.arrive(GET + POST + b"hello")
    assert b"".join(wire.writes) == NOT_FOUND * 2


def test_the_server_is_told_whether_the_client_used_tls(gateway, server) -> None:
    wire = accept(gateway, secure=True)
    wire.arrive(GET)
    assert b"X-Forwarded-Proto: https\r\n" in server.wire.sent


# --- Bodies ---


def test_an_upload_is_forwarded_as_it_arrives(wire, server) -> None:
    wire.arrive(POST + b"he")
    assert server.wire.sent.endswith(b"Content-Length: 5\r\n\r\nhe")
    wire.arrive(b"llo" + GET)
    assert server.wire.sent == b"llo"


def test_a_chunked_upload_is_forwarded_in_new_chunks(wire, server) -> None:
    wire.arrive(UPLOAD + b"2;x=y\r\nhe\r\n3\r\nllo\r\n")
    assert server.wire.sent.endswith(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    wire.arrive(b"0\r\nX-Sum: a\r\n\r\n")
    assert server.wire.sent == b"0\r\n\r\n"


def test_an_endless_upload_is_read_only_while_the_server_reads(wire, server, gateway) -> None:
    wire.arrive(POST.replace(b" 5", b" 900000000") + b"a")
    server.wire.sent  # noqa: B018
    server.wire.room = 0
    for _ in range(100):
        wire.arrive(b"a" * 65536)
    assert not wire.reading
    assert len(server.wire.unsent) + len(wire.protocol._reader.buffer) < 300_000
    server.wire.drain()
    assert wire.reading


def test_no_request_is_forwarded_before_its_body_begins(wire, server, gateway) -> None:
    wire.arrive(POST)
    assert server.wires == []
    gateway.passes(gateway.limits.body_s)
    assert wire.aborted


def test_an_upload_below_the_minimum_rate_is_aborted_and_a_steady_upload_is_not(
    wire, server, gateway
) -> None:
    wire.arrive(POST.replace(b" 5", b" 900000000") + b"a")
    for _ in range(5):
        wire.arrive(b"a" * 5000)
        gateway.passes(gateway.limits.body_s)
    assert not wire.aborted
    for _ in range(10):
        wire.arrive(b"a")
        gateway.passes(1)
    assert wire.aborted
    assert server.wire.aborted


def test_a_client_that_expects_100_gets_the_servers_interim_response(wire, server) -> None:
    wire.arrive(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
    assert server.wire.sent.endswith(b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    server.wire.arrive(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.arrive(b"hello")
    assert server.wire.sent == b"hello"
    server.wire.arrive(OK)
    assert wire.sent == OK


def test_a_response_before_the_end_of_the_request_closes_the_connection(wire, server) -> None:
    wire.arrive(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
    server.wire.arrive(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
    assert wire.sent == b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert wire.write_closed
    assert server.wire.aborted
    wire.arrive(b"hello" + GET)
    assert len(server.wires) == 1


def test_an_http_1_0_client_gets_no_interim_response(wire, server) -> None:
    wire.arrive(GET_10)
    server.wire.arrive(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")


def test_server_sent_events_are_forwarded_immediately(wire, server) -> None:
    wire.arrive(GET)
    server.wire.arrive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert wire.sent == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(3):
        server.wire.arrive(b"9\r\ndata: 1\n\n\r\n")
        assert wire.sent == b"9\r\ndata: 1\n\n\r\n"


def test_a_response_without_a_length_is_chunked_for_an_http_1_1_client(
    wire, server, gateway
) -> None:
    wire.arrive(GET)
    server.wire.arrive(b"HTTP/1.0 200 OK\r\n\r\nhello")
    server.wire.end()
    assert wire.sent == (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    assert not wire.write_closed


@pytest.mark.parametrize("kept", [b"", b"Connection: keep-alive\r\n"])
def test_a_response_without_a_length_ends_with_the_connection_of_an_http_1_0_client(
    wire, server, kept
) -> None:
    wire.arrive(GET_10[:-2] + kept + b"\r\n")
    server.wire.arrive(b"HTTP/1.0 200 OK\r\n\r\nhello")
    server.wire.end()
    assert wire.sent == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    assert wire.write_closed


def test_a_download_is_read_no_faster_than_the_client_reads(wire, server, gateway) -> None:
    wire.arrive(GET)
    wire.room = 1000
    server.wire.arrive(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n")
    for _ in range(10):
        server.wire.arrive(b"a" * 65536)
    assert not server.wire.reading
    assert len(wire.unsent) <= 65536
    wire.drain()
    server.wire.turn()
    assert server.wire.reading


def test_a_client_that_reads_nothing_is_disconnected_and_a_slow_one_is_not(
    wire, server, gateway
) -> None:
    wire.arrive(GET)
    wire.room, wire.acknowledged_late = 0, 100_000
    server.wire.arrive(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n")
    for _ in range(5):
        wire.acknowledged_late -= 10_000
        gateway.passes(gateway.limits.stalled_write_s)
        assert not wire.aborted
    wire.acknowledged_late -= 15
    gateway.passes(gateway.limits.stalled_write_s)
    assert wire.aborted
    assert server.wire.aborted


def test_a_last_response_is_not_cut_while_the_client_reads_it(wire, server, gateway) -> None:
    wire.arrive(GET_10)
    wire.acknowledged_late = 50_000
    server.wire.arrive(OK)
    assert wire.write_closed
    for _ in range(4):
        wire.acknowledged_late -= 10_000
        gateway.passes(gateway.limits.stalled_write_s)
        assert not wire.aborted
    wire.acknowledged_late = 0
    gateway.passes(gateway.limits.stalled_write_s)
    assert not wire.aborted
    gateway.passes(2)
    assert wire.aborted


# --- The server's faults ---


def test_a_server_that_refuses_connections_gives_502_at_once(wire, server, gateway) -> None:
    server.outcomes = [error.ConnectionRefusedError(), error.ConnectionRefusedError()]
    wire.arrive(GET + GET)
    gateway.turn()
    assert wire.sent == BAD_GATEWAY * 2


def test_a_server_that_cannot_be_reached_gives_504(wire, server) -> None:
    server.outcomes = [error.TimeoutError()]
    wire.arrive(GET)
    assert wire.sent == TIMED_OUT


def test_the_next_address_is_tried_and_a_reached_address_is_used_first_afterwards(
    gateway,
) -> None:
    server = Server(outcomes=[error.ConnectionRefusedError()])
    serve(gateway, server, "198.51.100.1", "198.51.100.2")
    wire = accept(gateway)
    for _ in range(2):
        wire.arrive(POST + b"hello")
        server.wire.arrive(OK)
        gateway.turn()
    assert wire.sent == OK * 2
    assert server.hosts == ["198.51.100.1", "198.51.100.2", "198.51.100.2"]


def test_an_unknown_host_name_is_a_configuration_error(gateway) -> None:
    web = WebsiteConnections(Names([]), ServerAddress("web", 80), gateway.limits, gateway.clock)
    failures: list[Failure] = []
    Deferred.fromCoroutine(web.look_up()).addErrback(failures.append)
    assert failures[0].check(ConfigurationError)
    assert failures[0].getErrorMessage().startswith("website web:80: the name 'web' is unknown")


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 101 No\r\n\r\n", b"", b"HTTP/1"]
)
def test_a_malformed_response_of_the_server_is_502(wire, server, answer) -> None:
    wire.arrive(GET)
    if answer:
        server.wire.arrive(answer)
    if not server.wire.aborted:
        server.wire.end()
    assert wire.sent == BAD_GATEWAY
    assert server.wire.aborted


def test_a_server_failure_during_an_upload_closes_the_clients_connection(wire, server) -> None:
    wire.arrive(POST + b"he")
    server.wire.breaks()
    assert (
        wire.sent
        == BAD_GATEWAY[:-2].replace(b"Content-Length", b"Connection: close\r\nContent-Length")
        + b"\r\n"
    )
    assert wire.write_closed


@pytest.mark.parametrize("ends", [Wire.end, WebWire.breaks])
def test_an_incomplete_response_aborts_the_clients_connection(wire, server, ends) -> None:
    wire.arrive(GET)
    server.wire.arrive(OK[:-1])
    ends(server.wire)
    assert wire.aborted


def test_a_reset_of_a_response_without_a_length_aborts_the_clients_connection(wire, server) -> None:
    wire.arrive(GET_10)
    server.wire.arrive(b"HTTP/1.0 200 OK\r\n\r\nhello")
    server.wire.breaks()
    assert wire.aborted


def test_a_response_that_does_not_begin_in_time_gives_504(wire, server, gateway) -> None:
    wire.arrive(GET)
    gateway.passes(gateway.limits.website_answer_s - 1)
    assert wire.sent == b""
    gateway.passes(1)
    assert wire.sent == TIMED_OUT
    assert server.wire.aborted
    wire.arrive(IDENT)
    assert wire.sent == NOT_FOUND


def test_a_stalled_response_is_aborted(wire, server, gateway) -> None:
    wire.arrive(GET)
    server.wire.arrive(OK[:-2])
    server.wire.arrive(b"l")
    gateway.passes(gateway.limits.website_quiet_s)
    assert not wire.aborted
    gateway.passes(gateway.limits.website_quiet_s)
    assert wire.aborted


def test_a_server_that_reads_nothing_is_504(wire, server, gateway) -> None:
    wire.arrive(POST.replace(b" 5", b" 900000") + b"a")
    server.wire.room = 0
    wire.arrive(b"a" * 100_000)
    gateway.passes(gateway.limits.body_s)
    gateway.passes(gateway.limits.body_s)
    assert wire.sent.startswith(b"HTTP/1.1 504 ")
    assert wire.write_closed


# --- The client's faults ---


def test_a_lost_client_connection_aborts_its_forwarded_request(wire, server) -> None:
    wire.arrive(GET)
    wire.lose()
    assert server.wire.aborted


def test_a_client_connection_lost_during_the_connect_aborts_the_servers_connection(
    wire, server
) -> None:
    dialled: Deferred[None] = Deferred()
    server.outcomes = [dialled]
    wire.arrive(GET)
    wire.lose()
    dialled.callback(None)
    assert server.wire.aborted
    assert server.wire.sent == b""


def test_a_client_that_half_closes_counts_as_lost(wire, server) -> None:
    wire.arrive(GET)
    wire.end()
    assert wire.closing
    assert server.wire.aborted


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_a_malformed_request_is_not_forwarded(wire, server, gateway, case: Malformed) -> None:
    wire.arrive(case.wire.replace(b"/open/1", b"/page", 1) + NEXT)
    gateway.turn()
    assert [served.sent for served in server.wires] == []


def test_a_request_whose_body_is_malformed_is_aborted_before_its_end(wire, server) -> None:
    wire.arrive(UPLOAD + b"5\r\nhello\r\n")
    assert server.wire.sent.endswith(b"5\r\nhello\r\n")
    wire.arrive(b"5\rhello\r\n0\r\n\r\n" + NEXT)
    assert server.wire.sent == b""
    assert server.wire.aborted
    assert wire.sent.startswith(b"HTTP/1.1 400 ")
    assert wire.write_closed


@pytest.mark.parametrize("target", [b"*", b"site:80", b"/a#b", b"ftp://site/"])
def test_a_malformed_target_is_not_forwarded(wire, server, target) -> None:
    wire.arrive(GET.replace(b"/page", target))
    assert server.wires == []
    assert wire.sent.startswith(b"HTTP/1.1 400 ")


# --- Connections to the server ---


def test_a_server_connection_is_reused(gateway, server) -> None:
    for _ in range(3):
        wire = accept(gateway)
        wire.arrive(GET)
        server.wire.arrive(OK)
        assert wire.sent == OK
    assert len(server.wires) == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        OK.replace(b"1.1", b"1.0", 1),
        OK + b"H",
    ],
)
def test_a_server_connection_that_is_not_persistent_is_closed(wire, server, answer) -> None:
    wire.arrive(GET)
    server.wire.arrive(answer)
    assert wire.sent == OK
    assert server.wire.aborted


def test_an_idle_server_connection_that_sends_data_or_ends_is_dropped(
    wire, server, gateway
) -> None:
    for ends in (lambda kept: kept.arrive(b"H"), Wire.end, WebWire.breaks):
        wire.arrive(GET)
        server.wire.arrive(OK)
        gateway.turn()
        ends(server.wire)
    wire.arrive(GET)
    assert len(server.wires) == 4


def test_an_idle_server_connection_is_reused_only_for_a_short_time(wire, server, gateway) -> None:
    wire.arrive(GET)
    server.wire.arrive(OK)
    gateway.turn()
    gateway.clock.now += 31
    wire.arrive(GET)
    assert len(server.wires) == 2
    assert server.wires[0].aborted


@pytest.mark.parametrize("ends", [Wire.end, WebWire.breaks])
def test_a_request_on_a_dead_idle_connection_is_repeated_once_on_a_new_connection(
    wire, server, gateway, ends
) -> None:
    wire.arrive(GET)
    server.wire.arrive(OK)
    gateway.turn()
    wire.arrive(GET)
    ends(server.wire)
    assert len(server.wires) == 2
    assert server.wire.sent == HEAD_UP
    ends(server.wire)
    assert wire.sent == OK + BAD_GATEWAY
    assert len(server.wires) == 2


def test_a_request_with_a_body_always_uses_a_new_connection(wire, server, gateway) -> None:
    wire.arrive(GET)
    server.wire.arrive(OK)
    gateway.turn()
    wire.arrive(POST + b"hello")
    assert len(server.wires) == 2


def test_the_number_of_idle_server_connections_is_limited(gateway, server) -> None:
    wires = [accept(gateway) for _ in range(40)]
    for wire in wires:
        wire.arrive(GET)
    for served in tuple(server.wires):
        served.arrive(OK)
    assert sum(not served.aborted for served in server.wires) == 32


def test_idle_server_connections_are_closed_at_shutdown(gateway) -> None:
    server = Server()
    web = serve(gateway, server)
    accept(gateway).arrive(GET)
    server.wire.arrive(OK)
    web.close()
    assert server.wire.aborted


# --- WebSocket ---


def test_a_websocket_carries_raw_bytes_in_both_directions(wire, server) -> None:
    wire.arrive(SOCKET + b"early")
    assert server.wire.sent.endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    server.wire.arrive(SWITCHED + b"first")
    assert wire.sent == SWITCHED + b"first"
    assert server.wire.sent == b"early"
    wire.arrive(GET)
    assert server.wire.sent == GET
    server.wire.arrive(b"\0\r\n")
    assert wire.sent == b"\0\r\n"


def upgrade(wire: WebWire, server: Server) -> None:
    wire.arrive(SOCKET)
    server.wire.arrive(SWITCHED)
    assert wire.sent == SWITCHED
    server.wire.sent  # noqa: B018


def test_a_refused_upgrade_is_forwarded_as_an_ordinary_response(wire, server, gateway) -> None:
    wire.arrive(SOCKET + GET)
    server.wire.arrive(OK)
    gateway.turn()
    server.wire.arrive(OK)
    assert wire.sent == OK * 2


def test_each_side_of_a_websocket_is_paused_while_the_other_side_is_full(wire, server) -> None:
    upgrade(wire, server)
    wire.room = 0
    server.wire.arrive(b"a")
    assert not server.wire.reading
    server.wire.room = 0
    wire.arrive(b"a" * 70_000)
    assert not wire.reading
    wire.drain()
    server.wire.drain()
    assert server.wire.reading
    assert wire.reading


def test_a_half_closed_side_of_a_websocket_still_receives(wire, server) -> None:
    upgrade(wire, server)
    wire.end()
    assert server.wire.write_closed
    server.wire.arrive(b"last words")
    assert wire.sent == b"last words"
    server.wire.end()
    assert wire.closing
    assert server.wire.closing
    assert not server.wire.aborted


def test_a_websocket_may_be_closed_by_the_server(wire, server) -> None:
    upgrade(wire, server)
    server.wire.end()
    assert wire.write_closed
    wire.arrive(b"last words")
    assert server.wire.sent == b"last words"
    wire.end()
    assert wire.closing
    wire.lose()
    assert not server.wire.aborted


def test_a_lost_side_of_a_websocket_closes_the_other_side(gateway, server) -> None:
    wire = accept(gateway)
    upgrade(wire, server)
    wire.breaks()
    assert server.wire.aborted
    wire = accept(gateway)
    upgrade(wire, server)
    server.wire.breaks()
    assert wire.aborted


@pytest.mark.parametrize("ends_first", [False, True])
def test_a_server_that_closes_a_websocket_and_resets_it_loses_none_of_its_last_data(
    wire, server, ends_first: bool
) -> None:
    upgrade(wire, server)
    wire.room = 0
    server.wire.arrive(b"last words")
    if ends_first:
        server.wire.end()
    wire.arrive(b"ping")
    server.wire.breaks()
    assert not wire.aborted
    wire.arrive(b"unheard")
    wire.drain()
    assert wire.sent == b"last words"
    assert wire.write_closed
    wire.end()
    assert wire.closing
    assert not wire.aborted


@pytest.mark.parametrize("reads", [False, True])
def test_the_client_of_a_websocket_without_a_server_is_aborted_at_the_limit(
    wire, server, gateway, reads: bool
) -> None:
    upgrade(wire, server)
    wire.room = 0
    server.wire.arrive(b"last words")
    server.wire.end()
    server.wire.breaks()
    if reads:
        wire.drain()
    gateway.passes(gateway.limits.stalled_write_s - 1)
    wire.arrive(b"still here")
    assert not wire.aborted
    gateway.passes(1.1)
    assert wire.aborted


def test_a_client_that_closes_a_websocket_and_resets_it_loses_none_of_its_last_data(
    wire, server
) -> None:
    upgrade(wire, server)
    server.wire.room = 0
    wire.arrive(b"last words")
    wire.end()
    wire.breaks()
    assert not server.wire.aborted
    assert server.wire.closing


def test_a_websocket_without_data_is_kept_until_the_limit(wire, server, gateway) -> None:
    upgrade(wire, server)
    gateway.passes(gateway.limits.website_quiet_s - 1)
    wire.arrive(b"ping")
    gateway.passes(1)
    assert not wire.aborted
    gateway.passes(gateway.limits.website_quiet_s)
    assert wire.aborted


@pytest.mark.parametrize("taken", [0, 15])
def test_a_websocket_whose_peer_hardly_reads_is_aborted(wire, server, gateway, taken: int) -> None:
    upgrade(wire, server)
    wire.room, wire.acknowledged_late = 0, 100_000
    server.wire.arrive(b"a")
    for _ in range(5):
        wire.acknowledged_late -= 10_000
        gateway.passes(gateway.limits.stalled_write_s)
        assert not wire.aborted
    wire.acknowledged_late -= taken
    gateway.passes(gateway.limits.stalled_write_s)
    assert wire.aborted


# --- Bounds ---


def test_data_buffered_after_a_forwarded_request_is_limited(wire, server, gateway) -> None:
    wire.arrive(GET)
    for _ in range(100):
        wire.arrive(GET * 1000)
    assert not wire.reading
    assert len(wire.protocol._reader.buffer) < 200_000
    server.wire.arrive(OK)
    gateway.turn()
    assert server.wire.sent == HEAD_UP * 2


def test_data_buffered_after_a_pending_open_is_limited(wire, server, gateway) -> None:
    gateway.dialling = True
    wire.arrive(OPEN + UPLOAD)
    for _ in range(100):
        wire.arrive(b"a" * 65536)
    assert not wire.reading
    assert wire.unread > 6_000_000


def test_the_number_of_pipelined_commands_is_limited() -> None:
    gateway = Gateway(Limits(pipelined_requests=1))
    gateway.dialling = True
    wire = accept(gateway)
    wire.arrive(OPEN)
    for _ in range(100):
        wire.arrive(IDENT * 1000)
    assert not wire.reading
    gateway.connects()
    gateway.turn()
    assert wire.reading
