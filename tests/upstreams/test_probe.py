"""Checks of servers, over loopback."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from gateway.addresses import ServerAddress
from gateway.errors import UpstreamUnavailable
from gateway.upstreams.dial import Server
from gateway.upstreams.probe import Kind, probe
from gateway.upstreams.tls_client import ClientTLS
from tests.upstreams.network import LOOPBACK, Network
from tests.upstreams.secure_servers import Certificates, SecureServer

_TIMEOUT_S = 0.3
_WHOLE = b"\x03" + bytes(3072)


def check(
    network: Network,
    address: ServerAddress,
    kind: Kind,
    proxy_protocol: str = "off",
    tls: ClientTLS | None = None,
    application: str = "",
) -> None:
    server = Server(address, proxy_protocol=proxy_protocol, tls=tls)
    network.result_of(server.look_up(network.resolving))
    network.result_of(probe(network.reactor, server, kind, _TIMEOUT_S, application))


class Answering:
    """A server that answers its first connection with these bytes, or by closing it. ``closes``: it closes
    the connection after the next bytes.
    """

    def __init__(self, answer: bytes, expected_bytes: int, closes: bool = False) -> None:
        self._closes = closes
        self._listening = socket.create_server((LOOPBACK, 0))
        self.address = ServerAddress(LOOPBACK, self._listening.getsockname()[1])
        self.received = b""
        self._thread = Thread(target=self._serve, args=(answer, expected_bytes))
        self._thread.start()

    def _serve(self, answer: bytes, expected_bytes: int) -> None:
        connection, _ = self._listening.accept()
        with connection, suppress(OSError):
            connection.settimeout(2 * _TIMEOUT_S)
            while len(self.received) < expected_bytes:
                self.received += connection.recv(65536)
            connection.sendall(answer)
            # The check ends first, or sends more.
            while answer and (more := connection.recv(65536)):
                self.received += more
                if self._closes:
                    return

    def close(self) -> None:
        self._thread.join()
        self._listening.close()


@pytest.mark.parametrize("kind", ["tcp", "rtmp"])
def test_a_check_by_tls_fails_if_the_certificate_is_not_valid(
    network: Network, tmp_path: Path, kind: Kind
) -> None:
    certificates = Certificates(tmp_path)
    server = SecureServer(network, certificates.server("other.example"))
    with pytest.raises(UpstreamUnavailable, match="its certificate is for other names"):
        check(network, server.address, kind, tls=ClientTLS(certificates.client()))


def test_a_check_by_tls_passes_after_its_handshake(network: Network, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    server = SecureServer(network, certificates.server(LOOPBACK))
    tls = ClientTLS(certificates.client())
    check(network, server.address, "tcp", tls=tls)
    with pytest.raises(UpstreamUnavailable, match="does not answer the handshake in time"):
        check(network, server.address, "rtmp", tls=tls)
    network.until(lambda: len(server.connections) == 2 and server.connections[1].received)
    assert server.connections[1].received[:1] == b"\x03"


@pytest.mark.parametrize("kind", ["tcp", "rtmp"])
def test_a_server_that_refuses_connections_fails(network: Network, kind: Kind) -> None:
    with pytest.raises(UpstreamUnavailable, match="refused"):
        check(network, network.dead_server(), kind)


def test_a_server_that_accepts_connections_passes_the_check_of_tcp(network: Network) -> None:
    check(network, network.server(), "tcp")


def test_a_server_that_says_nothing_fails_the_check_of_rtmp(network: Network) -> None:
    with pytest.raises(UpstreamUnavailable, match="in time"):
        check(network, network.server(), "rtmp")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an RTMP handshake"),
        (b"", "closes the connection"),
    ],
)
def test_a_server_that_is_no_rtmp_server_fails(network: Network, answer: bytes, cause: str) -> None:
    server = Answering(answer, 1537)
    with pytest.raises(UpstreamUnavailable, match=cause):
        check(network, server.address, "rtmp")
    server.close()


@pytest.mark.parametrize(
    ("proxy_protocol", "begins"), [("off", b"\x03\0\0\0\0"), ("v1", b"PROXY TCP4 127.0.0.1 ")]
)
def test_a_server_that_answers_the_handshake_passes(
    network: Network, proxy_protocol: str, begins: bytes
) -> None:
    server = Answering(_WHOLE, 1537)
    check(network, server.address, "rtmp", proxy_protocol)
    server.close()
    assert server.received.startswith(begins)


@pytest.mark.parametrize(
    ("closes", "cause"),
    [
        (True, "closes the connection instead of answering the connect"),
        (False, "does not answer the connect in time"),
    ],
)
def test_a_server_that_does_not_answer_the_connect_fails(
    *, network: Network, closes: bool, cause: str
) -> None:
    server = Answering(_WHOLE, 1537, closes)
    with pytest.raises(UpstreamUnavailable, match=cause):
        check(network, server.address, "rtmp", application="live")
    server.close()
    assert b"connect" in server.received
