"""HAProxy in front of the gateway, with the PROXY protocol."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import Authority, Gateway, make_authority, start_configured
from tests.helpers.interop.servers import LOOPBACK, start_haproxy
from tests.helpers.interop.streams import WAYS, Talk, connected
from tests.helpers.interop.websites import played
from tests.interop.conftest import Upstream

NAME = "a.example"
# Other addresses of this machine, which are not HAProxy's own.
_CLIENTS = tuple(f"127.0.0.{last}" for last in range(2, 6))
_CLIENT, _OTHER, _DENIED, _ = _CLIENTS
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_GATEWAY = """
[[listener]]
address = "{loopback}:0"
tls = true
proxy_protocol = true
trusted = ["{loopback}/32"]
{more}
[tls]
certificates = ["{certificate}"]
[[upstream]]
servers = ["{upstream}"]
[website]
server = "{loopback}:{website}"
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def start(
    programs: Programs, authority: Authority, origin: Upstream, website: int, more: str = ""
) -> Gateway:
    configuration = _GATEWAY.format(
        loopback=LOOPBACK,
        certificate=authority.certify("site.pem", NAME),
        upstream=origin.server,
        website=website,
        more=more,
    )
    return start_configured(programs, configuration, 1)


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_the_clients_address_is_in_forwarded_requests(programs, authority, origin, option) -> None:
    with played(lambda connection: connection.sendall(_OK)) as website:
        gateway = start(programs, authority, origin, website.port)
        port = start_haproxy(programs, gateway.ports[0], option)
        with socket.create_connection((LOOPBACK, port), 10, (_CLIENT, 0)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        (head,) = website.heads
    assert f"X-Forwarded-For: {_CLIENT}\r\n".encode().lower() in head.lower()


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_every_protocol_works_and_the_clients_address_is_logged(
    programs, authority, origin, stream, option
) -> None:
    gateway = start(programs, authority, origin, 1, "[limits]\ndrain_s = 0\n")
    port = start_haproxy(programs, gateway.ports[0], option)
    for way, address in zip(WAYS, _CLIENTS, strict=True):
        with connected(way, port, authority.client_context(), NAME, address) as up:
            Talk(up).start("publish", f"{stream}-{way}")
    gateway.program.send(signal.SIGTERM)
    gateway.program.ends(10)
    for way, address in zip(WAYS, _CLIENTS, strict=True):
        assert f': {address} publishes "{stream}-{way}" by ' in gateway.program.log


def test_limits_and_rules_apply_to_the_clients_address(programs, authority, origin) -> None:
    more = f'deny = ["{_DENIED}/32"]\n[limits]\nconnections_per_address = 1\n'
    with played(lambda connection: connection.sendall(_OK)) as website:
        gateway = start(programs, authority, origin, website.port, more)
        port = start_haproxy(programs, gateway.ports[0], "send-proxy-v2")
        with ExitStack() as clients:
            served = []
            # One after the other: HAProxy would let them come in any order.
            for address in (_CLIENT, _CLIENT, _OTHER, _DENIED):
                client = socket.create_connection((LOOPBACK, port), 10, (address, 0))
                served.append(is_served(clients.enter_context(client)))
    assert served == [True, False, True, False]


def is_served(client: socket.socket) -> bool:
    with suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.recv(65536).startswith(b"HTTP/1.1 200 ")
    return False


@pytest.mark.parametrize("address", [LOOPBACK, _CLIENT], ids=["no header", "no trust"])
def test_a_connection_without_a_proxy_header_is_closed(
    programs, authority, origin, address
) -> None:
    gateway = start(programs, authority, origin, 1)
    with socket.create_connection((LOOPBACK, gateway.ports[0]), 10, (address, 0)) as client:
        if address == _CLIENT:
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        # It can be closed before the request.
        with suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100) == b""
