"""The port test of a worker: public ports, tunnels to the loopback, and their limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from gateway.addresses import TcpAddress
from gateway.configuration.sections import Config, Listener, PortTest
from gateway.errors import RequestRefused, UnknownSession
from gateway.protocols.http import RequestReader
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.tunnels.ids import PORT_TEST, SessionIds
from gateway.workers.port_test import WorkerPortTest, of_clients, public_ports

# Ids of sessions of other workers.
CLIENTS, TESTS = (SessionIds("00", 2, bytes, ending).next()[0] for ending in (b"", PORT_TEST))
PLAIN = Listener(TcpAddress("0.0.0.0", 80))
SECURE = Listener(TcpAddress("0.0.0.0", 443), tls=True)


def test_each_port_is_tested_by_http_and_those_with_tls_by_https_too() -> None:
    places = [
        (PLAIN, [TcpAddress("0.0.0.0", 80)]),
        (Listener(TcpAddress("::", 80)), [TcpAddress("::", 80)]),
        (SECURE, [TcpAddress("::", 443), TcpAddress("0.0.0.0", 443)]),
    ]
    assert public_ports(places) == ("http:80", "http:443", "https:443")


def test_listeners_that_browsers_do_not_reach_are_left_out() -> None:
    behind = Listener(TcpAddress("0.0.0.0", 81), proxy_protocol=True)
    local = (PLAIN, [TcpAddress("127.0.0.1", 8080)])
    places = [local, (behind, [TcpAddress("0.0.0.0", 81)]), (PLAIN, [])]
    assert public_ports(places) == ("http:8080",)
    assert public_ports([*places, (PLAIN, [TcpAddress("0.0.0.0", 80)])]) == ("http:80",)


@define
class Reply:
    """The answer to an open or a command."""

    may_stream: bool = False
    bodies: list[bytes] = field(factory=list)
    errors: list[RequestRefused] = field(factory=list)

    def answer(self, body: bytes) -> None:
        self.bodies.append(body)

    def refuse(self, error: RequestRefused) -> None:
        self.errors.append(error)


class Worker:
    """A worker's port test with a clock of the test's."""

    def __init__(self, workers: int = 1) -> None:
        self.now = 50.0
        self.soon: list[Callable[[], None]] = []
        self.test = WorkerPortTest(
            Config(port_test=PortTest(True)),
            SessionIds("00", 1, self._random_bytes, PORT_TEST),
            self._find_elsewhere,
            lambda: self.now,
            self.soon.append,
            workers,
        )
        self.ids: list[bytes] = []

    def _random_bytes(self, size: int) -> bytes:
        return bytes(size - 2) + len(self.ids).to_bytes(2, "big")

    def _find_elsewhere(self, session_id: bytes) -> Any:
        return session_id

    def find_of_clients(self, session_id: bytes) -> Any:
        if session_id != CLIENTS:
            raise UnknownSession("no such session")
        return session_id

    def open(self, address: str = "192.0.2.1") -> bytes:
        reader = RequestReader(Limits())
        reader.receive(b"POST /port-test/open/1 HTTP/1.1\r\nHost: site\r\n\r\n")
        fields = reader.next_head()
        assert fields is not None
        reply = Reply()
        self.test.service.tunnels.open(address, fields, reply, Ingress())
        if reply.errors:
            raise reply.errors[0]
        (body,) = reply.bodies
        self.ids.append(body.strip())
        return self.ids[-1]

    def tunnels(self) -> dict[str, int]:
        return {key[0]: count for key, count in self.test.counts()["tunnels"].items()}


def test_tunnels_are_counted_and_closed_ones_leave_nothing() -> None:
    worker = Worker()
    session_id = worker.open()
    session = worker.test.service.tunnels.find(session_id)
    assert session.close(worker.now) == b"\0"
    for call in worker.soon:
        call()
    assert worker.tunnels() == {"opened": 1, "ended": 1, "refused": 0}
    worker.now += 60
    worker.test.sweep(worker.now)
    with pytest.raises(UnknownSession):
        worker.test.finder(worker.find_of_clients)(session_id)


def test_an_unused_tunnel_ends_by_itself() -> None:
    worker = Worker()
    worker.open()
    worker.now += 11
    worker.test.sweep(worker.now)
    assert worker.tunnels()["ended"] == 1


def test_tunnels_of_one_address_and_of_all_are_limited() -> None:
    worker = Worker()
    for _ in range(16):
        worker.open()
    with pytest.raises(RequestRefused):
        worker.open()
    for number in range(184):
        worker.open(f"198.51.100.{number}")
    with pytest.raises(RequestRefused):
        worker.open("203.0.113.1")
    assert worker.tunnels() == {"opened": 200, "ended": 0, "refused": 2}


def test_tunnels_of_one_ipv6_network_are_limited() -> None:
    worker = Worker()
    for number in range(16):
        worker.open(f"2001:db8::{number:x}")
    with pytest.raises(RequestRefused):
        worker.open("2001:db8::ffff")
    worker.open("2001:db8:0:1::1")


def test_other_workers_find_its_tunnels_and_those_of_clients() -> None:
    worker = Worker()
    session_id = worker.open()

    find = worker.test.finder(worker.find_of_clients)
    assert find(CLIENTS) == CLIENTS
    assert find(session_id) is worker.test.service.tunnels.find(session_id)
    with pytest.raises(UnknownSession):
        find(TESTS)
    with pytest.raises(UnknownSession):
        find(b"unknown")


def test_requests_of_the_port_test_reach_its_own_sessions_of_other_workers_alone() -> None:
    find = Worker().test.service.tunnels.find
    assert find(TESTS) == TESTS
    with pytest.raises(UnknownSession):
        find(CLIENTS)


def test_other_requests_do_not_reach_sessions_of_the_port_test() -> None:
    find = of_clients(Worker().find_of_clients)
    assert find(CLIENTS) == CLIENTS
    with pytest.raises(UnknownSession):
        find(TESTS)


def test_a_stop_ends_all_tunnels() -> None:
    worker = Worker()
    worker.open()
    worker.test.stop()
    assert worker.tunnels()["ended"] == 1
