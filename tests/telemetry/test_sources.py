"""Where figures come from that no session has: the kernel, the process, the loop, the upstreams."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from gateway.telemetry.loop import Loop
from gateway.telemetry.process import read_process
from gateway.telemetry.tcp import read_tcp_info
from gateway.telemetry.upstreams import UpstreamCounts


def test_the_kernel_tells_a_connections_round_trip() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"x")
                assert client.recv(1) == b"x"
                info = read_tcp_info(SimpleNamespace(getHandle=lambda: accepted))
        assert info is not None
        assert 0 < info.round_trip_s < 1
        assert 0 < info.variation_s < 1
        assert info.retransmits == 0


def test_a_connection_that_is_gone_or_no_tcp_tells_nothing() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    one.close()
    other.close()
    assert read_tcp_info(None) is None
    assert read_tcp_info(object()) is None
    assert read_tcp_info(SimpleNamespace(getHandle=lambda: one)) is None


def test_lag_is_what_the_sweep_is_late_by() -> None:
    loop = Loop(0.05, lambda: 0.0)
    for moment in (1.0, 1.05, 1.10, 1.35):
        loop.sample(moment)
    assert sum(loop.lag) == 3
    assert sum(loop.lag[1:]) == 1


def test_the_busy_share_is_processor_time_by_time() -> None:
    now = [0.0]
    loop = Loop(0.05, lambda: now[0] * 0.4)
    for _ in range(300):
        loop.sample(now[0])
        now[0] += 0.05
    assert loop.busy_share == pytest.approx(0.4)


def test_the_process_knows_its_open_files() -> None:
    before = read_process()
    with socket.socket(), socket.socket():
        after = read_process()
    assert after.open_files == before.open_files + 2
    assert after.memory_bytes > 1 << 20
    assert after.processor_s >= before.processor_s > 0


def test_upstreams_are_counted_by_server() -> None:
    counts = UpstreamCounts()
    counts.connected("a:1935", 0.01)
    counts.failed("b:1935")
    assert sum(counts.dials_of("a:1935")) == 1
    assert sum(counts.dials_of("b:1935")) == 0
    assert counts.failures["b:1935"] == 1
