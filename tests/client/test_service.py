"""The client as a service: ports, systemd, metrics, and failures of the start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gateway.client.arguments import parse
from gateway.client.service import ClientService, Options, makeService
from gateway.errors import GatewayError
from tests.helpers.logged import logged
from tests.upstreams.network import LOOPBACK, Network


class Run:
    """A service between its start and stop."""

    def __init__(self, network: Network, *words: str) -> None:
        self.network = network
        settings = parse(
            ("--gateway", "a.example", "--state", "none", "--listen", f"{LOOPBACK}:0", *words), {}
        )
        self.service = ClientService(settings, network.reactor)

    def start(self) -> list[str]:
        """Returns the lines of the log."""
        with logged() as lines:
            self.service.privilegedStartService()
            self.service.startService()
        return lines

    def stop(self) -> None:
        ended: list[Any] = []
        Deferred.addCallback(self.service.stopService(), ended.append)
        self.network.until(lambda: ended)

    def get(self, port: int, path: str) -> bytes:
        """An HTTP response."""
        with socket.create_connection((LOOPBACK, port)) as connection:
            connection.setblocking(False)
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            received: list[bytes] = []
            self.network.until(lambda: _is_read(connection, received))
        return b"".join(received)


def _is_read(connection: socket.socket, received: list[bytes]) -> bool:
    try:
        data = connection.recv(65536)
    except BlockingIOError:
        return False
    received.append(data)
    return not data


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's socket."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield receiver


def test_systemd_is_told_of_start_and_end_with_the_status(
    network: Network, notified: socket.socket
) -> None:
    run = Run(network)
    lines = run.start()
    assert notified.recv(1000) == b"READY=1\nSTATUS=streams: 0"
    assert any("ready: rtmpt-client " in line for line in lines)
    assert any(f"listening on {LOOPBACK}:" in line for line in lines)
    run.stop()
    assert notified.recv(1000) == b"STOPPING=1"


def test_metrics_are_served_and_nothing_else(network: Network) -> None:
    run = Run(network, "--metrics", f"{LOOPBACK}:0")
    (line,) = [line for line in run.start() if "metrics on" in line]
    port = int(line.rpartition("/")[0].rpartition(":")[2])
    page = run.get(port, "/metrics")
    assert page.startswith(b"HTTP/1.0 200")
    for name in (b"build_info", b"streams 0.0", b'races_total{result="won",way="rtmp:1935"} 0.0'):
        assert b"\nrtmpt_client_" + name in page
    assert run.get(port, "/").startswith(b"HTTP/1.0 404")
    run.stop()


def test_connections_for_metrics_are_limited(network: Network) -> None:
    run = Run(network, "--metrics", f"{LOOPBACK}:0")
    (line,) = [line for line in run.start() if "metrics on" in line]
    port = int(line.rpartition("/")[0].rpartition(":")[2])
    many = [socket.create_connection((LOOPBACK, port)) for _ in range(17)]
    many[-1].setblocking(False)
    network.until(lambda: _is_read(many[-1], []))
    for each in many:
        each.close()
    run.stop()


def test_a_port_in_use_is_one_line(
    network: Network, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        run = Run(network, "--listen", f"{LOOPBACK}:{port}")
        monkeypatch.setattr("sys.excepthook", None)
        with logged() as lines, pytest.raises(GatewayError):
            run.service.privilegedStartService()
    run.stop()
    assert f'critical: cannot start: "{LOOPBACK}:{port}": in use' in lines[-1]


def test_the_plugin_makes_the_service_of_the_options() -> None:
    options = Options()
    options.parseOptions(["--gateway", "a.example", "--way", "rtmpts"])
    assert [str(way) for way in options.settings.ways] == ["rtmpts:443"]
    assert isinstance(makeService(options), ClientService)


def test_the_options_name_twistd_in_their_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Options().parseOptions([])
    assert "see twistd rtmpt-client --help" in capsys.readouterr().err
