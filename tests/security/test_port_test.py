"""The port test as a means of attack: what one address, and all together, can get from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.configuration.sections import Config, PortTest
from gateway.errors import RequestRefused, UnknownSession
from gateway.protocols.commands import Kind
from gateway.protocols.http import RequestReader
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.port_test.measuring import DOWN, MEASURE, MEASURED_BYTES
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.tunnels.ids import SessionIds
from gateway.workers.port_test import WorkerPortTest

HANDSHAKE = b"\3" + bytes(2 * BLOCK_BYTES)
MEASURE_DOWN = ChunkWriter().write(Command(MEASURE, 1.0, None, (DOWN,)).message())


class Reply:
    """Keeps the last answer."""

    may_stream = False
    body: bytes | None = None

    def answer(self, body: bytes) -> None:
        self.body = body

    def refuse(self, error: RequestRefused) -> None:
        self.body = None


class Attack:
    """Clients that open tunnels and measure as often as they can, at 40 polls a second for each tunnel."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[Callable[[], None]] = []
        made = iter(range(1 << 20))
        self.test = WorkerPortTest(
            Config(port_test=PortTest(True)),
            SessionIds("00", 1, lambda size: next(made).to_bytes(size, "big")),
            self._find_elsewhere,
            lambda: self.now,
            self.soon.append,
        )
        reader = RequestReader(Limits())
        reader.receive(b"POST /port-test/open/1 HTTP/1.1\r\nHost: site\r\n\r\n")
        self.fields: Any = reader.next_head()
        # The number of the next command of each tunnel.
        self.tunnels: dict[bytes, int] = {}
        self.received_bytes = 0

    def _find_elsewhere(self, session_id: bytes) -> Any:
        raise UnknownSession("nowhere")

    def run(self, seconds: float, addresses: int) -> None:
        for turn in range(round(seconds * 20)):
            self._open(f"192.0.2.{turn % addresses}")
            for session_id in tuple(self.tunnels):
                self._poll(session_id)
                self._poll(session_id)
                if turn % 65 == 64:
                    self._measure(session_id)
            self.now += 0.05
            self.test.sweep(self.now)
            self._turn()

    def _open(self, address: str) -> None:
        reply: Any = Reply()
        try:
            self.test.service.tunnels.open(address, self.fields, reply, Ingress())
        except RequestRefused:
            return
        session_id = reply.body.strip()
        self.tunnels[session_id] = 0
        self._send(session_id, Kind.SEND, HANDSHAKE)
        self._measure(session_id)

    def _measure(self, session_id: bytes) -> None:
        if session_id in self.tunnels:
            self._send(session_id, Kind.SEND, MEASURE_DOWN)

    def _poll(self, session_id: bytes) -> None:
        try:
            self._send(session_id, Kind.IDLE, b"\0")
        except UnknownSession:
            self.tunnels.pop(session_id, None)

    def _send(self, session_id: bytes, kind: Kind, body: bytes) -> None:
        number = self.tunnels[session_id]
        self.tunnels[session_id] += 1
        session = self.test.service.tunnels.find(session_id)
        answer = session.receive(kind, number, body, self.now, True, 0)
        if answer is None:
            reply: Any = Reply()
            session.wait(number, reply, self.now)
        else:
            self.received_bytes += len(answer)
        self._turn()

    def _turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    @property
    def sent_bytes(self) -> int:
        return self.test.counts()["bytes"]["down",]


def test_an_address_gets_its_measurements_and_no_more() -> None:
    attack = Attack()
    attack.run(30, addresses=1)
    # 24 at once, and one more each 15 s; less arrives than permitted.
    assert 10 * MEASURED_BYTES < attack.sent_bytes < 26 * 1.02 * MEASURED_BYTES


def test_no_more_measurements_run_at_once_than_permitted() -> None:
    attack = Attack()
    most = 0.0
    for _ in range(4):
        before = attack.sent_bytes
        attack.run(1, addresses=200)
        most = max(most, attack.sent_bytes - before)
    assert 2_000_000 < most < 8 * 1.1 * 2_500_000 + 8 * 131_072


def test_tunnels_that_nobody_closes_are_gone_after_their_time() -> None:
    attack = Attack()
    attack.run(2, addresses=200)
    attack.tunnels.clear()
    for _ in range(100):
        attack.now += 1
        attack.test.sweep(attack.now)
        attack._turn()
    counts = attack.test.counts()["tunnels"]
    assert counts["opened",] == counts["ended",] > 0
