"""Figures of the kernel, the event loop and upstreams."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from gateway.telemetry.measurement.event_loop import Loop
from gateway.telemetry.measurement.tcp_info import TcpInfo, read_tcp_info
from gateway.telemetry.measurement.totals import UpstreamCounts


@pytest.fixture
def accepted() -> Iterator[socket.socket]:
    """The server's end of a connection that has carried a byte."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        accepted.sendall(b"x")
        assert client.recv(1) == b"x"
        yield accepted


def info_of(connection: socket.socket) -> TcpInfo:
    info = read_tcp_info(SimpleNamespace(getHandle=lambda: connection))
    assert info is not None
    return info


def test_the_kernels_round_trip_time_is_read(accepted: socket.socket) -> None:
    info = info_of(accepted)
    assert 0 < info.round_trip_s < 1
    assert 0 < info.variation_s < 1
    assert info.retransmits == 0


def test_the_kernels_figures_are_those_that_other_programs_read(accepted: socket.socket) -> None:
    ss = shutil.which("ss")
    if ss is None:
        pytest.skip("ss is not installed")
    info = info_of(accepted)
    port = f"sport = :{accepted.getsockname()[1]}"
    command = [ss, "-tin", "state", "established", port]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\brtt:([0-9.]+)/([0-9.]+)", told)
    assert found is not None
    assert info.round_trip_s == pytest.approx(float(found[1]) / 1000, abs=1e-6)
    assert info.variation_s == pytest.approx(float(found[2]) / 1000, abs=1e-6)


def test_a_closed_or_non_tcp_connection_has_no_figures() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    one.close()
    other.close()
    assert read_tcp_info(None) is None
    assert read_tcp_info(object()) is None
    assert read_tcp_info(SimpleNamespace(getHandle=lambda: one)) is None


def test_the_lag_of_the_event_loop_is_the_delay_of_the_sweep() -> None:
    loop = Loop(0.05, lambda: 0.0)
    for moment in (1.0, 1.05, 1.10, 1.35):
        loop.sample(moment)
    assert sum(loop.lag) == 3
    assert sum(loop.lag[1:]) == 1


def test_the_busy_share_is_the_ratio_of_processor_time_to_time() -> None:
    now = [0.0]
    loop = Loop(0.05, lambda: now[0] * 0.4)
    for _ in range(300):
        loop.sample(now[0])
        now[0] += 0.05
    assert loop.busy_share == pytest.approx(0.4)


def test_upstream_connections_are_counted_by_server() -> None:
    counts = UpstreamCounts()
    counts.connected("a:1935", 0.01)
    counts.failed("b:1935", "refused")
    assert sum(counts.dials_of("a:1935")) == 1
    assert sum(counts.dials_of("b:1935")) == 0
    assert counts.failures_of("b:1935") == 1
