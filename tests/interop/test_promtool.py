"""Prometheus' checker of metrics: names, units, help texts, format."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from gateway.protocols.reasons import EndReason
from gateway.telemetry.exposition.session_collector import SessionCollector
from gateway.telemetry.exposition.text import exposition
from tests.helpers.fabricated_telemetry import Node, health, session_exposition
from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.tunnel_client import start_client
from tests.helpers.interop.watched import start_watched_gateway


@pytest.fixture
def node() -> Node:
    node = Node()
    node.sources.upstreams = health
    tunnels = [node.open(protocol) for protocol in ("rtmpt", "rtmpts", "rtmp", "rtmps")]
    node.talk(tunnels, 10)
    tunnels[0].dismiss(EndReason.CLIENT_LOST)
    return node


def check(pieces: Iterator[bytes]) -> None:
    checked = subprocess.run(
        [needs("promtool"), "check", "metrics"],
        input=b"".join(pieces),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_promtool_reports_no_problem_of_a_running_gateway(programs: Programs) -> None:
    gateway = start_watched_gateway(programs)
    check(iter([gateway.get("/metrics").encode()]))


def test_promtool_reports_no_problem_of_a_running_client(programs: Programs) -> None:
    client = start_client(programs, "--gateway", "a.example")
    check(iter([client.page().encode()]))


def test_promtool_reports_no_problem_of_the_aggregates(node: Node) -> None:
    check(exposition(node.metrics.families()))


def test_promtool_reports_no_problem_of_the_metrics_of_single_sessions(node: Node) -> None:
    check(session_exposition(SessionCollector(node.sessions, 1000)))
