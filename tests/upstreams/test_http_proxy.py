"""Connections to servers through an HTTP proxy, which the test plays, over loopback."""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol

from gateway.addresses import ServerAddress, parse_server
from gateway.protocols.proxy_client.digest import Credentials
from gateway.upstreams.dial import Server, connect
from gateway.upstreams.http_proxy import HTTPProxy, ProxyFailed
from tests.upstreams.network import Network, connects_in_memory

ANN = Credentials("ann", "secret")
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<html>"
ASKS = (
    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Digest realm="r", nonce="%b", qop="auth"\r\n'
    b"Content-Length: 6\r\n\r\n<html>"
)
OPENED = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nID\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x01data"
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.1\r\n(?:\S+: .*\r\n)+\r\n")
_LENGTH = re.compile(rb"Content-Length: (\d+)")


class Proxy(Factory):
    """It answers each request with the next of ``answers``; none: it closes. Later bytes are noted."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers: list[bytes | None] = list(answers)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections: list[_ProxyConnection] = []
        self.later = b""

    def buildProtocol(self, addr: object) -> _ProxyConnection:
        return _ProxyConnection(self)


class _ProxyConnection(Protocol):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._buffer = b""
        self._is_connected = False
        self.bodies: list[bytes] = []
        proxy.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if self._is_connected:
            self._proxy.later += data
            return
        self._buffer += data
        while (match := _REQUEST.match(self._buffer)) is not None:
            length = _LENGTH.search(match[0])
            end = match.end() + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                return
            self._proxy.heads.append(match[0])
            self._proxy.bodies.append(self._buffer[match.end() : end])
            self.bodies.append(self._buffer[match.end() : end])
            self._buffer = self._buffer[end:]
            answer = self._proxy.answers.pop(0) if self._proxy.answers else b""
            if answer is None:
                transport.loseConnection()
                return
            self._is_connected = answer.startswith(OK)
            transport.write(answer)


class Near(Protocol):
    """The user of the connection."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class Stage:
    """A server behind a proxy, whose name the client cannot resolve."""

    def __init__(self, network: Network, proxy: Proxy, url: str, **options: Any) -> None:
        self.network = network
        self.far = proxy
        self.address = network.listen(proxy)
        self.near = Near()
        self.server = Server(parse_server(url), proxy=HTTPProxy(self.address, ANN), **options)
        network.result_of(self.server.look_up(network.resolving))

    def connect(self, timeout_s: float = 2.0) -> None:
        self.network.result_of(connect(self.network.reactor, self.server, self.near, timeout_s))

    def failure(self, timeout_s: float = 2.0) -> str:
        with pytest.raises(ProxyFailed) as failed:
            self.connect(timeout_s)
        return str(failed.value)

    def write(self, data: bytes) -> None:
        transport: Any = self.near.transport
        transport.write(data)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("rtmp://media.invalid:1935", b"media.invalid:1935"),
        ("rtmp://[2001:db8::1]", b"[2001:db8::1]:1935"),
    ],
)
def test_a_server_is_reached_by_connect_and_not_resolved(
    network: Network, url: str, authority: bytes
) -> None:
    stage = Stage(network, Proxy(OK + b"early"), url)
    stage.connect()
    stage.write(b"hello")
    network.until(lambda: stage.far.later == b"hello")
    assert stage.far.heads == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority)]
    # What has come with the proxy's answer is the server's.
    assert stage.near.received == b"early"


def test_a_challenge_is_answered_on_a_new_connection_and_remembered(network: Network) -> None:
    stage = Stage(network, Proxy(ASKS % b"n", OK, OK), "rtmp://media.invalid")
    stage.connect()
    first, second = stage.far.heads
    assert b"Proxy-Authorization" not in first
    assert b'Proxy-Authorization: Digest username="ann"' in second
    assert b"nc=00000001" in second
    assert len(stage.far.connections) == 2
    stage.connect()
    assert b"nc=00000002" in stage.far.heads[2]


def test_a_connection_keeps_nothing_of_its_connects(network: Network) -> None:
    stage = Stage(network, Proxy(ASKS % b"n", OK), "rtmp://media.invalid")
    before = connects_in_memory()
    stage.connect()
    stage.write(b"hello")
    network.until(lambda: stage.far.later == b"hello")
    # The connect that was challenged is garbage in a cycle.
    gc.collect()
    assert connects_in_memory() <= before


def test_the_proxy_header_of_a_server_is_sent_behind_connect(network: Network) -> None:
    stage = Stage(network, Proxy(OK), "rtmp://media.invalid", proxy_protocol="v1")
    network.result_of(connect(network.reactor, stage.server, stage.near, 2.0, client="192.0.2.7"))
    network.until(lambda: stage.far.later.startswith(b"PROXY TCP4 192.0.2.7 "))


FAILURES: list[tuple[Sequence[bytes | None], str]] = [
    ((FORBIDDEN,), "refused CONNECT to media.invalid:1935: 403 Forbidden"),
    (
        (ASKS % b"1", ASKS % b"2"),
        "refused CONNECT to media.invalid:1935: 407 Who (it does not accept the name and password)",
    ),
    (
        ((ASKS % b"n").replace(b"qop=", b"stale=true, qop="),) * 3,
        "asks for other credentials again and again",
    ),
    ((None,), "closes the connection without an answer to CONNECT"),
    ((b"SSH-2.0-OpenSSH_9.2\r\n",), "is not an HTTP proxy: not HTTP/1.x"),
    ((b"",), "does not answer to CONNECT in time"),
]


@pytest.mark.parametrize(("answers", "said"), FAILURES)
def test_a_failure_names_the_proxy_and_its_words(
    network: Network, answers: Sequence[bytes | None], said: str
) -> None:
    stage = Stage(network, Proxy(*answers), "rtmp://media.invalid")
    assert stage.failure(0.5) == f"proxy {stage.address} {said}"
    assert stage.near.transport is None


def test_a_proxy_that_does_not_listen_is_named(network: Network) -> None:
    dead = network.dead_server()
    server = Server(parse_server("rtmps://media.invalid"), proxy=HTTPProxy(dead))
    network.result_of(server.look_up(network.resolving))
    with pytest.raises(ConnectError, match=f"^proxy {dead}: Connection was refused"):
        network.result_of(connect(network.reactor, server, Near(), 1.0))


# --- Tunnels ---


def test_a_tunnels_requests_have_absolute_targets(network: Network) -> None:
    stage = Stage(network, Proxy(OPENED, ANSWER), "rtmpt://media.invalid")
    stage.connect()
    stage.write(b"up")
    network.until(lambda: stage.near.received == b"data")
    first, second = (head.partition(b"\r\n")[0] for head in stage.far.heads[:2])
    assert first == b"POST http://media.invalid:80/open/1 HTTP/1.1"
    assert second == b"POST http://media.invalid:80/send/ID/0 HTTP/1.1"
    assert b"\r\nHost: media.invalid:80\r\n" in stage.far.heads[0]


def test_a_tunnel_survives_challenges_at_any_request(network: Network) -> None:
    stage = Stage(network, Proxy(ASKS % b"1", OPENED, ASKS % b"2", ANSWER), "rtmpt://media.invalid")
    stage.connect()
    stage.write(b"up")
    network.until(lambda: stage.near.received == b"data")
    # Each with its body, on the connection after the one that was challenged.
    assert stage.far.bodies[:4] == [b"\x00", b"\x00", b"up", b"up"]
    assert len(stage.far.connections) == 3
    for head, nonce in zip(stage.far.heads, (None, b"1", b"1", b"2"), strict=False):
        target = head.split(b" ")[1]
        wanted = None if nonce is None else (b'nonce="%b"' % nonce, b'uri="%b"' % target)
        assert all(each in head for each in wanted) if wanted else b"Authorization" not in head


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((FORBIDDEN,), "answers to a request for media.invalid:80: 403 Forbidden"),
        ((ASKS % b"1", ASKS % b"2"), "407 Who (it does not accept the name and password)"),
        (
            (b"HTTP/1.0 502 Bad\r\n\r\n<html>",),
            "answers to a request for media.invalid:80: 502 Bad",
        ),
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), "not HTTP: malformed status line"),
    ],
)
def test_a_tunnel_that_the_proxy_refuses_names_it(
    network: Network, answers: Sequence[bytes], said: str
) -> None:
    stage = Stage(network, Proxy(*answers), "rtmpt://media.invalid")
    failure = stage.failure()
    assert failure.startswith(f"proxy {stage.address}")
    assert said in failure


def test_a_write_during_a_challenge_is_sent_once_on_the_next_connection(network: Network) -> None:
    options = b"RTMPT-Options: resume=4, direct\r\n"
    opened = OPENED.replace(b"Content-Length", options + b"Content-Length")
    stage = Stage(network, Proxy(opened, ASKS % b"1", ANSWER, ANSWER), "rtmpt://media.invalid")
    stage.connect()
    transport: Any = stage.near.transport
    stage.write(b"one")
    network.until(lambda: transport.getHandle() is None)
    stage.write(b"two")
    network.until(lambda: stage.near.received == b"datadata")
    assert [each.bodies for each in stage.far.connections] == [
        [b"\x00", b"one"],
        [b"one", b"two"],
    ]


def test_addresses_are_the_proxys(network: Network) -> None:
    server = Server(
        parse_server("rtmpt://media.invalid"), proxy=HTTPProxy(ServerAddress("127.0.0.1", 3128))
    )
    network.result_of(server.look_up(network.resolving))
    assert (server.hosts, server.port) == (["127.0.0.1"], 3128)
