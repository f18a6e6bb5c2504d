"""Which peers may name the address of a client, and its effects."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.listeners.http import HTTPConnection
from gateway.protocols.client_address import Proxies
from gateway.protocols.limits import Limits
from gateway.protocols.networks import Admission, Networks
from tests.helpers.http_conversation import Gateway
from tests.listeners.test_forwarding import GET, OPEN, Server, WebWire, accept, serve

TRUSTED = Networks.of([ip_network("10.0.0.0/8")])
PROXIES = Proxies(TRUSTED, Admission.of([], [ip_network("203.0.113.0/24")]))
DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
FULL = b"HTTP/1.1 503 Service Unavailable\r\n"


def accept_proxy(gateway: Gateway) -> WebWire:
    wire = WebWire()
    wire.protocol = HTTPConnection(gateway.service, "10.0.0.1", proxies=PROXIES)
    wire.protocol.makeConnection(wire)
    return wire


def of(request: bytes, client: bytes) -> bytes:
    """The request as a proxy forwards it for ``client``."""
    return request.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: " + client + b"\r\n\r\n", 1)


def test_sessions_behind_a_proxy_count_against_the_limits_of_their_clients() -> None:
    gateway = Gateway(Limits(sessions_per_address=1))
    wire = accept_proxy(gateway)
    for client in (b"192.0.2.1", b"192.0.2.2"):
        wire.arrive(of(OPEN, client))
        assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    wire.arrive(of(OPEN, b"198.51.100.1, 192.0.2.1, 10.0.0.2"))
    assert wire.sent.startswith(FULL)


def test_an_untrusted_client_cannot_claim_another_address() -> None:
    gateway = Gateway(Limits(sessions_per_address=1))
    wire = accept(gateway)
    wire.arrive(of(OPEN, b"198.51.100.1"))
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    wire.arrive(of(OPEN, b"198.51.100.2"))
    assert wire.sent.startswith(FULL)


@pytest.mark.parametrize("request_", [OPEN, GET])
def test_a_denied_client_gets_403_and_the_proxys_connection_stays(request_: bytes) -> None:
    gateway = Gateway()
    server = Server()
    serve(gateway, server)
    wire = accept_proxy(gateway)
    wire.arrive(of(request_, b"203.0.113.1"))
    gateway.turn()
    assert wire.sent == DENIED
    assert not server.wires
    assert not wire.closing
    assert not wire.aborted
    wire.arrive(of(OPEN, b"192.0.2.1"))
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")


def test_only_the_address_list_of_a_trusted_proxy_is_forwarded_to_the_web_server() -> None:
    gateway = Gateway()
    server = Server()
    serve(gateway, server)
    accept_proxy(gateway).arrive(of(GET, b"192.0.2.1"))
    assert b"X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n" in server.wire.sent
    accept(gateway).arrive(of(GET, b"198.51.100.1"))
    assert b"X-Forwarded-For: 192.0.2.1\r\n" in server.wire.sent


def test_an_unclosed_quote_does_not_hide_the_element_that_the_gateway_adds() -> None:
    gateway = Gateway()
    server = Server()
    serve(gateway, server)
    accept(gateway).arrive(GET.replace(b"\r\n\r\n", b'\r\nForwarded: for="a\r\n\r\n'))
    assert b"\r\nForwarded: for=192.0.2.1;proto=http\r\n" in server.wire.sent
