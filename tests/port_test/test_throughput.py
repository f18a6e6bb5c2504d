"""Throughput against a loopback in the same event loop."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.port_test.connections import Path
from gateway.port_test.observations import Throughput, Trial, Unmeasured
from gateway.port_test.report import document_of
from gateway.port_test.requests import Requests
from gateway.port_test.table import report_of
from gateway.port_test.throughput import measured
from gateway.port_test.ways import Target
from gateway.protocols.port_test.loopback import LoopbackServer
from gateway.protocols.port_test.measuring import BLOCK_BYTES, BYTES_PER_S
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from tests.port_test.making import works
from tests.port_test.servers import LOOPBACK, Handler, Tunnel, page, saying, serving

SECONDS = 0.2


class LoopbackTunnel(Tunnel):
    """A tunnel to a loopback under the path of the port test, with the loopback's rate."""

    def __init__(self, *, permits: bool = True) -> None:
        super().__init__()
        self.loopback = LoopbackServer(
            ServerHandshake(0, bytes(RANDOM_BYTES)), bytes(BLOCK_BYTES), lambda: permits
        )
        self.out = b""

    async def _obey(self, target: str, body: bytes) -> bytes | None:
        self.commands.append(target)
        command = target.removeprefix("/port-test/").split("/")[0]
        if command == "open":
            return b"session\n"
        if command == "send":
            self.out += self.loopback.receive(body, monotonic())
            for _ in range(100):
                if self.loopback.is_ahead(monotonic()):
                    await asyncio.sleep(0.005)
        self.out += self.loopback.due(monotonic())
        if not self.out:
            await asyncio.sleep(0.005)
        data, self.out = self.out, b""
        return b"\1" + data


def throughput(handler: Handler) -> Throughput:
    async def run() -> Throughput:
        async with serving(handler) as port:

            async def path() -> Path:
                return Path(LOOPBACK, port)

            requests = Requests(f"{LOOPBACK}:{port}", folder="/port-test")
            return await measured(path, requests, 2.0, SECONDS)

    return asyncio.run(run())


def test_both_directions_are_measured_in_one_tunnel_that_is_closed() -> None:
    tunnel = LoopbackTunnel()
    found = throughput(tunnel)
    assert found.cause is None
    assert found.limit == BYTES_PER_S
    # A burst of 128 KiB in addition.
    for rate in (found.up, found.down):
        assert rate is not None
        assert 0.1 * BYTES_PER_S < rate < BYTES_PER_S + 150_000 / SECONDS
    assert tunnel.commands[0] == "/port-test/open/1"
    assert tunnel.commands[-1].startswith("/port-test/close/session/")
    assert sum("open" in each for each in tunnel.commands) == 1


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (LoopbackTunnel(permits=False), Unmeasured.BUSY),
        (saying(page("429 Too Many Requests")), Unmeasured.BUSY),
        (saying(page("404 Not Found")), Unmeasured.NOT_OFFERED),
        (saying(page("200 OK")), Unmeasured.NOT_OFFERED),
        (saying(b"", then_wait=False), Unmeasured.FAILED),
    ],
)
def test_a_server_without_a_measurement_is_told(handler: Handler, cause: Unmeasured) -> None:
    assert throughput(handler).cause is cause


class RestartedTunnel(LoopbackTunnel):
    """The server is restarted during the measurement, and does not know the session then."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        again = saying(page("404 Not Found")) if self.commands else super().__call__
        await again(reader, writer)

    async def _obey(self, target: str, body: bytes) -> bytes | None:
        return await super()._obey(target, body) if len(self.commands) < 3 else None


def test_a_server_that_is_restarted_during_a_measurement_has_offered_it() -> None:
    assert throughput(RestartedTunnel()).cause is Unmeasured.FAILED


def measured_trial(found: Throughput) -> Trial:
    trial = works("rtmpt")
    trial.throughput = found
    return trial


def test_the_table_has_columns_for_throughput_if_it_was_measured() -> None:
    trial = measured_trial(Throughput(45_600, 1_230_000, 2_500_000))
    lines = report_of([trial, works("rtmps")], Target("host"), 1.0, 100)
    assert lines[2].endswith("round trip  up          down        result")
    assert lines[3].endswith("10 ms       -           -           works")
    assert lines[4].endswith("10 ms       365 kbit/s  9.8 Mbit/s  works")


@pytest.mark.parametrize("cause", Unmeasured)
def test_every_cause_has_a_remark(cause: Unmeasured) -> None:
    lines = report_of([measured_trial(Throughput(cause=cause))], Target("host"), 1.0, 200)
    assert any("throughput" in line for line in lines)


def test_a_throughput_at_the_servers_limit_is_told() -> None:
    lines = report_of([measured_trial(Throughput(1e5, 2.4e6, 2.5e6))], Target("host"), 1.0, 200)
    assert any("limits measurements to 20 Mbit/s; the way may have more" in line for line in lines)


def test_the_document_has_bits_a_second() -> None:
    trial = measured_trial(Throughput(1000.4, 2000.0, 2_500_000.0))
    ways = document_of([trial], Target("host"), 1.0)["ways"]
    assert isinstance(ways, list)
    assert ways[0]["throughput"] == {
        "up_bits_per_s": 8003,
        "down_bits_per_s": 16000,
        "limit_bits_per_s": 20_000_000,
        "cause": None,
    }
