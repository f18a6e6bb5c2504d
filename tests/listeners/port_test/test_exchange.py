"""Requests of the port test on a client's connection: answers, order, deadlines and limits."""

from __future__ import annotations

import json
from ipaddress import ip_network
from zlib import crc32

import pytest

from gateway.listeners.http import HTTPConnection
from gateway.listeners.port_test.page import Page
from gateway.listeners.port_test.service import PortTest
from gateway.protocols.client_address import Proxies
from gateway.protocols.networks import Admission, Networks
from gateway.protocols.port_test.resources import HOLDS_S, PIECES, PONG, UPLOAD_BYTES
from tests.helpers.http_conversation import Gateway, Wire

IDENT = b"POST /fcs/ident2 HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\n"


class TestWire(Wire):
    """A wire with the bytes sent since the last call."""

    __test__ = False

    @property
    def sent(self) -> bytes:
        sent, self.writes = b"".join(self.writes), []
        return sent


class Site:
    """A gateway with a port test, whose tunnels end at the test's upstreams."""

    def __init__(self, workers: int = 1) -> None:
        self.gateway = Gateway()
        self.test = PortTest(
            self.gateway.sessions, self.gateway.limits, self.gateway.clock, workers
        )
        self.test.page = Page(("http:80", "https:443"))
        self.gateway.service.port_test = self.test

    def accept(self, address: str = "192.0.2.1", proxies: Proxies | None = None) -> TestWire:
        wire = TestWire()
        wire.protocol = HTTPConnection(self.gateway.service, address, False, "", proxies)
        wire.protocol.makeConnection(wire)
        return wire

    def passes(self, seconds: float) -> None:
        """Let time pass in the steps of the worker's sweep."""
        for _ in range(round(seconds / 0.05)):
            self.gateway.passes(0.05)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def wire(site: Site) -> TestWire:
    return site.accept()


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join(
        (f"GET /port-test{path} HTTP/{version}", "Host: site", *fields, "", "")
    ).encode()


def post(path: str, body: bytes, *fields: str) -> bytes:
    lines = (f"POST /port-test{path} HTTP/1.1", "Host: site", f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, *fields, "", "")).encode() + body


def test_a_ping_is_answered_at_once_and_the_connection_stays(site: Site, wire: TestWire) -> None:
    for _ in range(2):
        wire.arrive(get("/ping"))
        assert wire.sent.endswith(b"\r\n\r\n" + PONG)
        site.gateway.turn()
    assert not wire.write_closed
    assert site.test.counts == {("ping", "answered"): 2}


def test_the_page_is_answered_with_its_policy(wire: TestWire) -> None:
    wire.arrive(get(""))
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    assert b"connect-src 'self' http://site:80 https://site:443;" in head
    assert b"Set-Cookie" not in head
    assert b'data-ways="http:80 https:443"' in body


def test_without_a_port_test_its_targets_are_unknown(site: Site, wire: TestWire) -> None:
    site.gateway.service.port_test = None
    wire.arrive(get("/ping"))
    assert wire.sent.startswith(NOT_FOUND)


def test_other_targets_are_not_answered_by_the_port_test(wire: TestWire) -> None:
    wire.arrive(b"GET /other HTTP/1.1\r\nHost: site\r\n\r\n")
    assert wire.sent == b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("seconds", HOLDS_S)
def test_a_long_poll_is_answered_after_its_time(site: Site, wire: TestWire, seconds: int) -> None:
    wire.arrive(get(f"/hold/{seconds}"))
    site.passes(seconds - 0.1)
    assert wire.sent == b""
    site.passes(0.2)
    assert wire.sent.endswith(PONG)


def test_pieces_are_sent_one_after_another(site: Site, wire: TestWire) -> None:
    wire.arrive(get("/pieces"))
    received = [wire.sent]
    while not received[-1].endswith(b"0\r\n\r\n"):
        site.passes(0.4)
        received.append(wire.sent)
    assert len(received) == PIECES
    assert all(received)
    assert site.test.exchanges == 0


def test_pieces_for_http_1_0_close_the_connection(site: Site, wire: TestWire) -> None:
    wire.arrive(get("/pieces", "Connection: keep-alive", version="1.0"))
    site.passes(3)
    assert wire.write_closed
    assert b"chunked" not in wire.sent


def test_an_upload_is_answered_with_its_size_and_checksum(site: Site, wire: TestWire) -> None:
    data = bytes(range(256)) * (UPLOAD_BYTES // 256)
    request = post("/upload", data)
    for at in range(0, len(request), 40_000):
        wire.arrive(request[at : at + 40_000])
    answer = json.loads(wire.sent.partition(b"\r\n\r\n")[2])
    assert answer == {"bytes": UPLOAD_BYTES, "crc32": crc32(data)}
    site.gateway.turn()
    wire.arrive(get("/ping"))
    assert wire.sent.endswith(PONG)


def test_chunked_uploads_are_accepted(wire: TestWire) -> None:
    head = b"POST /port-test/upload HTTP/1.1\r\nHost: site\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.arrive(head + b"3\r\nabc\r\n")
    assert wire.sent == b""
    wire.arrive(b"0\r\n\r\n")
    assert b'"bytes": 3' in wire.sent


@pytest.mark.parametrize(
    "request_",
    [
        post("/upload", bytes(UPLOAD_BYTES + 1)),
        post("/open/1", bytes(100_000)),
        get("/ping", "Content-Length: 1"),
        b"POST /port-test/upload HTTP/1.1\r\nHost: site\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n" % (UPLOAD_BYTES + 1)
        + bytes(UPLOAD_BYTES + 1),
    ],
)
def test_large_bodies_are_refused_and_the_connection_closed(
    site: Site, wire: TestWire, request_: bytes
) -> None:
    wire.arrive(request_)
    assert wire.sent.startswith(b"HTTP/1.1 413 ")
    assert wire.write_closed
    assert site.test.exchanges == 0


def test_an_upload_that_stops_is_closed_at_its_deadline(site: Site, wire: TestWire) -> None:
    wire.arrive(post("/upload", b"abc")[:-1])
    site.passes(site.gateway.limits.body_s + 0.1)
    assert wire.aborted
    assert site.test.exchanges == 0


def test_a_tunnel_has_the_commands_of_rtmpt_under_the_prefix(site: Site, wire: TestWire) -> None:
    wire.arrive(post("/open/1", b"\0"))
    session = wire.sent.partition(b"\r\n\r\n")[2].strip().decode()
    (upstream,) = site.gateway.upstreams
    site.gateway.turn()
    wire.arrive(post(f"/send/{session}/0", b"up"))
    assert wire.sent.endswith(b"\r\n\r\n\1")
    assert upstream.received == [b"up"]
    site.gateway.turn()
    wire.arrive(post(f"/idle/{session}/1", b"\0"))
    assert wire.sent == b""
    upstream.says(b"down")
    assert wire.sent.endswith(b"\r\n\r\n\1down")
    site.gateway.turn()
    wire.arrive(post(f"/close/{session}/2", b"\0"))
    assert wire.sent.endswith(b"\r\n\r\n\0")
    assert upstream.ended == "closed"
    assert site.test.counts["tunnel", "answered"] == 4


def test_a_command_of_an_unknown_tunnel_is_not_found(wire: TestWire) -> None:
    wire.arrive(post("/idle/0000unknown/0", b"\0"))
    assert wire.sent.startswith(NOT_FOUND)


def test_a_tunnel_survives_the_loss_of_a_connection_with_a_held_idle(site: Site) -> None:
    wire = site.accept()
    wire.arrive(post("/open/1", b"\0"))
    session = wire.sent.partition(b"\r\n\r\n")[2].strip().decode()
    site.gateway.turn()
    wire.arrive(post(f"/idle/{session}/0", b"\0"))
    wire.lose()
    site.passes(1)
    other = site.accept()
    other.arrive(post(f"/close/{session}/1", b"\0"))
    assert other.sent.endswith(b"\0")
    assert site.test.exchanges == 0


def test_an_open_whose_connection_is_lost_leaves_no_tunnel(site: Site, wire: TestWire) -> None:
    site.gateway.dialling = True
    wire.arrive(post("/open/1", b"\0"))
    wire.lose()
    site.gateway.connects()
    assert site.gateway.upstreams[0].ended


@pytest.mark.parametrize("path", ["/hold/5", "/pieces"])
def test_the_loss_of_a_connection_ends_its_request(site: Site, wire: TestWire, path: str) -> None:
    wire.arrive(get(path))
    assert site.test.exchanges == 1
    wire.lose()
    assert site.test.exchanges == 0
    site.passes(6)


def test_a_half_closed_connection_is_closed(site: Site, wire: TestWire) -> None:
    wire.arrive(get("/hold/5"))
    wire.end()
    assert wire.closing
    assert site.test.exchanges == 0


def test_a_request_behind_pending_responses_waits_for_them(site: Site, wire: TestWire) -> None:
    wire.arrive(get("/hold/1") + get("/ping") + IDENT)
    assert wire.sent == b""
    site.passes(1.1)
    sent = wire.sent
    assert sent.count(PONG) == 2
    assert sent.index(NOT_FOUND) > sent.rindex(PONG)


def test_pages_of_the_same_host_can_read_answers_and_refusals(wire: TestWire, site: Site) -> None:
    allowed = b"Access-Control-Allow-Origin: http://site:8080\r\n"
    for path in ("/ping", "/unknown"):
        wire.arrive(get(path, "Origin: http://site:8080"))
        assert allowed in wire.sent
        site.gateway.turn()
    options = get("/upload", "Origin: http://site:8080").replace(b"GET", b"OPTIONS", 1)
    wire.arrive(options)
    answer = wire.sent
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert allowed in answer


def test_commands_outside_the_port_test_have_no_fields_of_cors(wire: TestWire) -> None:
    wire.arrive(b"POST /open/1 HTTP/1.1\r\nHost: site\r\nOrigin: http://site\r\n\r\n")
    assert b"Access-Control" not in wire.sent


def test_requests_of_other_sites_are_refused(wire: TestWire, site: Site) -> None:
    wire.arrive(get("/hold/15", "Sec-Fetch-Site: cross-site"))
    assert wire.sent.startswith(b"HTTP/1.1 403 ")
    assert site.test.counts == {("other", "refused"): 1}


def test_an_address_has_a_limited_number_of_requests(site: Site) -> None:
    wire = site.accept()
    for _ in range(3000):
        wire.arrive(get("/ping"))
        site.gateway.turn()
    assert b" 429 " not in wire.sent
    wire.arrive(get("/ping"))
    assert wire.sent.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    other = site.accept("192.0.2.2")
    other.arrive(get("/ping"))
    assert other.sent.endswith(PONG)
    assert site.test.counts["ping", "limited"] == 1


def test_the_limit_is_that_of_the_client_whom_a_trusted_proxy_names(site: Site) -> None:
    nobody = Admission(Networks.of([]), Networks.of([]))
    proxies = Proxies(Networks.of([ip_network("192.0.2.9/32")]), nobody)
    wire = site.accept("192.0.2.9", proxies)
    for number in range(3001):
        wire.arrive(get("/ping", f"X-Forwarded-For: 198.51.100.{number % 2}"))
        site.gateway.turn()
    assert b" 429 " not in wire.sent


def test_requests_at_the_same_time_are_limited(site: Site) -> None:
    shared = Site(workers=100)
    wires = [shared.accept(f"192.0.2.{number}") for number in range(6)]
    for wire in wires:
        wire.arrive(get("/hold/15"))
    assert wires[-1].sent.startswith(b"HTTP/1.1 429 ")
    assert shared.test.exchanges == 5
    wires[0].lose()
    late = shared.accept()
    late.arrive(get("/ping"))
    assert late.sent.endswith(PONG)


def test_one_address_cannot_use_up_the_requests_at_the_same_time(site: Site) -> None:
    wires = [site.accept() for _ in range(101)]
    for wire in wires:
        wire.arrive(get("/hold/15"))
    assert site.test.exchanges == 100
    assert wires[100].sent.startswith(b"HTTP/1.1 429 ")
    other = site.accept("192.0.2.2")
    other.arrive(get("/ping"))
    assert other.sent.endswith(PONG)
    wires[0].lose()
    late = site.accept()
    late.arrive(get("/ping"))
    assert late.sent.endswith(PONG)


def test_one_ipv6_network_cannot_either(site: Site) -> None:
    wires = [site.accept(f"2001:db8::{number:x}") for number in range(101)]
    for wire in wires:
        wire.arrive(get("/hold/15"))
    assert wires[100].sent.startswith(b"HTTP/1.1 429 ")
    assert site.test.exchanges == 100


def test_little_is_read_behind_a_request_that_waits(site: Site, wire: TestWire) -> None:
    wire.arrive(get("/hold/1"))
    wire.arrive(b"GET / HTTP/1.1\r\nHost: site\r\nX: " + bytes(70_000))
    assert not wire.reading


def test_little_is_read_if_a_request_waits_behind_a_pending_response(site: Site) -> None:
    wire = site.accept()
    open_ = b"POST /open/1 HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n"
    site.gateway.dialling = True
    wire.arrive(open_ + get("/ping"))
    wire.arrive(b"x" * 70_000)
    assert not wire.reading
    site.gateway.connects()
    site.gateway.turn()
    assert PONG in wire.sent
