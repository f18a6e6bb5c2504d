"""Datagrams through a gateway of two workers: reloads, replaced workers, drain, and forged sources."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, port_said
from tests.helpers.interop.workers import Gateway

_UDP = """
reload_drain_s = 60.0
[[udp]]
address = "127.0.0.1:0"
server = "127.0.0.1:{server}"
sessions = 400
sessions_per_address = 400
"""
_UDP_HEAD_BYTES = 8
_IP_HEAD_BYTES = 20


class Relayed:
    """A gateway of two workers, and a UDP server behind it."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self._sockets: list[socket.socket] = []
        self.server = self.opened()
        self.server_port = self.server.getsockname()[1]
        self.gateway = Gateway(programs, folder, 1, self.configuration())
        self.program = self.gateway.program
        self.place = LOOPBACK, port_said(self.program, f"receiving datagrams on {LOOPBACK}:")

    def opened(self) -> socket.socket:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets.append(udp)
        udp.bind((LOOPBACK, 0))
        udp.settimeout(20.0)
        return udp

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def configuration(self) -> str:
        return _UDP.format(server=self.server_port)

    def figure(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for series, value in self.gateway.metrics().items()
            if series.startswith(f"rtmpt_gateway_{name}{{")
            and all(each in series for each in wanted)
        )


class Client:
    """A client with a session: ``flow`` is its address at the server."""

    def __init__(self, relayed: Relayed) -> None:
        self._relayed = relayed
        self.socket = relayed.opened()
        self.flow = self.send(b"hello")
        self.reply(b"reply")
        assert self.send(b"answer") == self.flow

    def send(self, data: bytes) -> Any:
        """Returns the source that the server sees."""
        self.socket.sendto(data, self._relayed.place)
        got, flow = self._relayed.server.recvfrom(65536)
        assert got == data
        return flow

    def reply(self, data: bytes) -> None:
        self._relayed.server.sendto(data, self.flow)
        assert self.socket.recvfrom(65536) == (data, self._relayed.place)

    def talk(self) -> None:
        """Both directions work, by the same port as before."""
        assert self.send(b"m" * 1200) == self.flow
        self.reply(b"r" * 1200)


@pytest.fixture(scope="module")
def relayed(
    lasting_programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Relayed]:
    started = Relayed(lasting_programs, tmp_path_factory.mktemp("udp"))
    yield started
    started.close()
    assert "Traceback" not in started.program.log


def test_a_forged_source_gets_at_most_three_times_what_was_sent(relayed: Relayed) -> None:
    if os.geteuid():
        pytest.skip("raw sockets need root")
    victim = relayed.opened()
    victim.settimeout(0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(forged(victim.getsockname(), relayed.place, b"f" * 50), relayed.place)
    _, flow = relayed.server.recvfrom(65536)
    for _ in range(30):
        relayed.server.sendto(b"r" * 40, flow)
    dropped = "udp_dropped_datagrams_total"
    until(lambda: relayed.figure(dropped, reason="unproven") == 27, "the others are dropped")
    got = b""
    with suppress(BlockingIOError):
        while True:
            got += victim.recv(65536)
    assert len(got) == 120
    assert relayed.gateway.sessions() == []
    assert relayed.figure("udp_unproven_sessions") == 1


def test_an_upgrade_keeps_all_sessions_and_a_killed_worker_loses_its_own(relayed: Relayed) -> None:
    old = set(relayed.gateway.worker_pids)
    clients = [Client(relayed) for _ in range(20)]
    relayed.program.send(signal.SIGUSR2)
    until(lambda: "the supervisor continues" in relayed.program.log, "the supervisor is replaced")
    for client in clients:
        client.talk()
    clients = [Client(relayed) for _ in range(20)]
    killed, _ = set(relayed.gateway.worker_pids) - old
    os.kill(killed, signal.SIGKILL)
    until(lambda: _has_replaced(relayed), "the worker is replaced")
    kept = 0
    for client in clients:
        flow = client.send(b"more")
        kept += flow == client.flow
        client.flow = flow
        client.reply(b"reply")
    assert 0 < kept < 20


def _has_replaced(relayed: Relayed) -> bool:
    return "has been started instead" in relayed.program.log


def test_sessions_outlive_a_reload_with_their_ports_and_end_as_others_do(relayed: Relayed) -> None:
    """The last test of this gateway, which it ends."""
    gateway = relayed.gateway
    clients = [Client(relayed) for _ in range(20)]
    shown = {each["alias"] for each in gateway.sessions() if each["protocol"] == "udp"}
    assert len({alias[:4] for alias in shown}) >= 2, "both workers have clients"

    # None of the sockets of the worker that is not replaced gets a new client.
    gateway.configure(more=relayed.configuration())
    gateway.file.write_text(gateway.file.read_text().replace("workers = 2", "workers = 1"))
    gateway.reload()
    until(lambda: gateway.states()[0] == 1, "one worker")
    late = [Client(relayed) for _ in range(10)]
    before = relayed.figure("udp_bytes_total", direction="up")
    for client in (*clients, *late):
        client.talk()
    assert relayed.figure("udp_bytes_total", direction="up") == before + 30 * 1200
    assert shown < {each["alias"] for each in gateway.sessions()}
    assert relayed.figure("sessions", protocol="udp") == len(shown) + 10

    chosen = next(iter(shown))
    with closing(HTTPConnection(LOOPBACK, gateway.admin, timeout=20)) as connection:
        connection.request("DELETE", f"/sessions/{chosen}")
        assert connection.getresponse().status == 204
    assert f"session {chosen} ended: ended by" in relayed.program.log
    ends = "sessions_ended_total"
    assert relayed.figure(ends, protocol="udp", reason="ended_by_operator") == 1

    # The gateway stops: sessions may end by themselves for drain_s.
    relayed.program.send(signal.SIGTERM)
    until(lambda: "may end by themselves" in relayed.program.log, "it drains")
    late[0].talk()
    relayed.program.send(signal.SIGTERM)
    until(lambda: not relayed.program.running, "it has ended")
    assert f"{LOOPBACK} connected by UDP on {LOOPBACK}:0" in relayed.program.log


def forged(source: tuple[str, int], place: tuple[str, int], data: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram; the kernel fills in the checksum of the header."""
    udp = pack("!HHHH", source[1], place[1], _UDP_HEAD_BYTES + len(data), 0) + data
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(place[0])
    length = _IP_HEAD_BYTES + len(udp)
    head = pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0)
    return head + addresses + udp
