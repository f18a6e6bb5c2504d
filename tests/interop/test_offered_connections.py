"""Connections that begin with a command of another worker's session, with real workers.

While the owner is stopped (SIGSTOP), the other worker accepts all connections, and offers them. The owner
takes them until it has its share.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import sleep

import pytest

from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.servers import LOOPBACK, port_said
from tests.helpers.interop.workers import FORWARDED, TAKEN, Gateway

_PROXY = "127.0.0.2"
_SECURE = "127.0.0.3"
_PATIENCE_S = 15.0
_NUMBER = 40
_DECLINED = TAKEN.replace("taken", "declined")


@pytest.fixture
def echo() -> Iterator[int]:
    with echo_server() as port:
        yield port


@pytest.fixture
def gateway(programs: Programs, tmp_path: Path, echo: int) -> Iterator[Gateway]:
    started = Gateway(programs, tmp_path, echo)
    yield started
    programs.stop()
    assert "Traceback" not in started.program.log


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class OwnedSession:
    """A session of the worker with the process id ``owner``, without a connection."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.owner, self._other = gateway.worker_pids
        with stopped(self._other):
            self.id = NumberedSession(gateway.port, keeps=False).id
        until(lambda: gateway.metrics()["rtmpt_gateway_connections"] == 0, "it has none")

    def send(self, number: int, body: bytes = b"") -> bytes:
        target = f"/send/{self.id}/{number}".encode()
        return request(target, body)

    def connections(
        self, stack: ExitStack, count: int = _NUMBER, port: int = 0, host: str = LOOPBACK
    ) -> list[socket.socket]:
        """Connections that the other worker has accepted. The owner must be stopped."""
        before = self._sockets()
        made = [connect(stack, port or self._gateway.port, host) for _ in range(count)]
        until(lambda: self._sockets() == before + count, "all are accepted")
        return made

    def close(self) -> None:
        with ExitStack() as stack:
            client = connect(stack, self._gateway.port)
            client.sendall(request(f"/close/{self.id}".encode()))
            answer(client)

    def _sockets(self) -> int:
        """The number of the other worker's sockets."""
        links = [each.readlink() for each in Path(f"/proc/{self._other}/fd").iterdir()]
        return sum(str(link).startswith("socket:") for link in links)


def request(target: bytes, body: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
    return head + body


def connect(stack: ExitStack, port: int, host: str = LOOPBACK) -> socket.socket:
    return stack.enter_context(closing(socket.create_connection((host, port), _PATIENCE_S)))


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of a response."""
    client.settimeout(_PATIENCE_S)
    received = b""
    while b"\r\n\r\n" not in received:
        data = client.recv(65536)
        assert data, "closed without a response"
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(length - len(body))
    return int(head.split()[1]), body


def offered(gateway: Gateway) -> tuple[int, int, int]:
    """The numbers of connections that were taken, declined, and both."""
    figures = gateway.metrics()
    taken, declined = (int(figures[name]) for name in (TAKEN, _DECLINED))
    return taken, declined, taken + declined


def echoed(gateway: Gateway, session: OwnedSession, first: int) -> bytes:
    """The bytes that come back, by idles from the number ``first`` on until none is left."""
    found = b""
    with ExitStack() as stack:
        client = connect(stack, gateway.port)
        while True:
            client.sendall(request(f"/idle/{session.id}/{first}".encode()))
            body = answer(client)[1][1:]
            first += 1
            if not body:
                return found
            found += body


def test_a_connection_is_taken_by_the_owner_and_nothing_is_lost(gateway: Gateway) -> None:
    session = OwnedSession(gateway)
    with ExitStack() as stack:
        with stopped(session.owner):
            clients = session.connections(stack)
            for number, client in enumerate(clients):
                client.sendall(session.send(number, b"%04d" % number))
        found = b""
        for client in clients:
            status, body = answer(client)
            assert status == 200
            found += body[1:]
        until(lambda: offered(gateway)[2] == _NUMBER, "they have been taken or declined")
        taken, declined, _ = offered(gateway)
        assert taken >= _NUMBER / 2
        assert gateway.metrics()[FORWARDED] == declined
        assert gateway.metrics()["rtmpt_gateway_connections"] == _NUMBER
        found += echoed(gateway, session, _NUMBER)
        assert sorted(found[i : i + 4] for i in range(0, len(found), 4)) == [
            b"%04d" % number for number in range(_NUMBER)
        ]
    until(lambda: gateway.metrics()["rtmpt_gateway_connections"] == 0, "no connection is left")
    session.close()


def test_commands_of_offered_connections_get_404_if_the_owner_is_killed(gateway: Gateway) -> None:
    session = OwnedSession(gateway)
    os.kill(session.owner, signal.SIGSTOP)
    with ExitStack() as stack:
        clients = session.connections(stack)
        for number, client in enumerate(clients):
            client.sendall(session.send(number))
        # The first of them are in the owner's socket.
        sleep(0.5)
        os.kill(session.owner, signal.SIGKILL)
        assert [answer(client)[0] for client in clients] == [404] * _NUMBER
        gateway.await_workers()
        assert offered(gateway) == (0, _NUMBER, _NUMBER)
        # They are kept.
        for client in clients:
            client.sendall(request(b"/open/1"))
            assert answer(client)[0] == 200
    until(lambda: gateway.metrics()["rtmpt_gateway_connections"] == 0, "no connection is left")


def test_limits_for_addresses_hold_over_taken_connections(
    programs: Programs, tmp_path: Path, echo: int
) -> None:
    gateway = Gateway(programs, tmp_path, echo, "connections_per_address = 20\n")
    session = OwnedSession(gateway)
    for first in (0, 20):
        with ExitStack() as stack:
            with stopped(session.owner):
                clients = session.connections(stack, 20)
                for number, client in enumerate(clients):
                    client.sendall(session.send(first + number))
                assert is_refused(gateway)
            for client in clients:
                assert answer(client)[0] == 200
            assert is_refused(gateway)
            assert gateway.metrics()["rtmpt_gateway_connections"] == 20
        until(lambda: gateway.metrics()["rtmpt_gateway_connections"] == 0, "none is left")
    assert offered(gateway)[0] >= 20


def is_refused(gateway: Gateway) -> bool:
    with ExitStack() as stack:
        client = connect(stack, gateway.port)
        client.settimeout(0.5)
        try:
            return client.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True


def test_the_address_in_a_proxy_header_stays_that_of_a_taken_connection(
    programs: Programs, tmp_path: Path, echo: int
) -> None:
    gateway = Gateway(
        *(programs, tmp_path, echo),
        f'[[listener]]\naddress = "{_PROXY}:0"\nproxy_protocol = true\ntrusted = ["127.0.0.0/8"]\n',
    )
    port = port_said(gateway.program, f"listening on {_PROXY}:")
    session = OwnedSession(gateway)
    with ExitStack() as stack:
        with stopped(session.owner):
            client = session.connections(stack, 1, port, _PROXY)[0]
            header = b"PROXY TCP4 198.51.100.7 192.0.2.9 50000 80\r\n"
            client.sendall(header + session.send(0, b"up"))
        assert answer(client)[0] == 200
        until(lambda: gateway.metrics()[TAKEN] == 1, "it is taken")
        client.sendall(request(b"/open/1"))
        opened = answer(client)[1].decode().strip()
        assert opened[:4] == session.id[:4]
        found = [each for each in gateway.sessions() if each["address"] == "198.51.100.7"]
        assert [each["listener"] for each in found] == [f"{_PROXY}:0"]


def test_commands_in_tls_are_forwarded(programs: Programs, tmp_path: Path, echo: int) -> None:
    authority = make_authority(tmp_path)
    certificate = authority.certify("site.pem", LOOPBACK)
    gateway = Gateway(
        *(programs, tmp_path, echo),
        f'[[listener]]\naddress = "{_SECURE}:0"\ntls = true\n[tls]\ncertificates = ["{certificate}"]\n',
    )
    port = port_said(gateway.program, f"listening on {_SECURE}:")
    session = OwnedSession(gateway)
    context = authority.client_context()
    with ExitStack() as stack:
        for number in range(10):
            secure = tls(context, connect(stack, port, _SECURE))
            stack.enter_context(closing(secure))
            secure.sendall(session.send(number, b"up"))
            assert answer(secure)[0] == 200
    assert gateway.metrics()[FORWARDED] > 0
    assert gateway.metrics()[TAKEN] == 0


def tls(context: ssl.SSLContext, client: socket.socket) -> ssl.SSLSocket:
    return context.wrap_socket(client, server_hostname=LOOPBACK)


@pytest.mark.parametrize("upgrades", [False, True])
def test_no_connection_is_offered_to_a_worker_that_retires(
    gateway: Gateway, upgrades: bool
) -> None:
    """It could open no session there, and would end with the worker. After an upgrade, the new workers have
    the same configuration.
    """
    session = OwnedSession(gateway)
    if upgrades:
        gateway.program.send(signal.SIGUSR2)
        gateway.program.says("the supervisor continues")
    else:
        gateway.reload()
    gateway.await_workers(active=2, retiring=1)
    taken, forwarded = gateway.metrics()[TAKEN], gateway.metrics()[FORWARDED]
    with ExitStack() as stack:
        for number in range(_NUMBER):
            client = connect(stack, gateway.port)
            client.sendall(session.send(number))
            assert answer(client)[0] == 200
        assert gateway.metrics()[TAKEN] == taken
        assert gateway.metrics()[FORWARDED] == forwarded + _NUMBER
    session.close()
    gateway.await_workers()
