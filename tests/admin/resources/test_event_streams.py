"""Event streams for the status page."""

from __future__ import annotations

import json
from itertools import count
from os import sysconf
from pathlib import Path
from time import time
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from gateway.admin.resources.event_streams import WATCHERS
from gateway.telemetry.sessions import NEWEST_ENDED
from tests.helpers.admin_server import AdminServer, _chunks


def watch(server: AdminServer, query: str = "") -> tuple[Any, Any]:
    protocol, transport = server.connect()
    protocol.dataReceived(b"GET /events%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % query.encode())
    server.let_run()
    return protocol, transport


def process_start() -> float:
    """The start of this process in seconds since 1970, from the kernel's time since boot."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return time() - since_boot + ticks / sysconf("SC_CLK_TCK")


def events(transport: Any) -> list[Any]:
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream" in head
    # What follows the last empty line is not whole yet.
    lines = b"".join(_chunks(body)).decode().split("\n\n")[:-1]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_the_list_of_sessions_is_sent_at_once_and_every_second(server: AdminServer) -> None:
    server.node.open()
    _, transport = watch(server)
    server.reactor.advance(1)
    server.let_run()
    first, second = events(transport)
    assert [each["alias"] for each in first["sessions"]] == ["n100-1"]
    assert first["totals"]["sessions"] == 1
    assert first["upstreams"] == server.ask("GET", "/upstreams").json["upstreams"]
    assert second["draining"] is False


def test_a_session_is_sent_with_its_diagnosis_until_the_session_is_removed(
    server: AdminServer,
) -> None:
    server.node.open()
    _, transport = watch(server, "?session=n100-1")
    server.ask("DELETE", "/sessions/n100-1")
    server.reactor.advance(1)
    server.let_run()
    living, ended = events(transport)
    assert living["session"]["diagnosis"]["cause"] == "unknown"
    assert ended["session"]["reason"] == "ended_by_operator"
    _, other = watch(server, "?session=none")
    assert events(other) == [{"session": None}]


def test_an_event_stream_accepts_the_filters_of_the_list(server: AdminServer) -> None:
    for _ in range(3):
        server.node.open()
    _, transport = watch(server, "?limit=1&sort=alias&order=desc")
    (event,) = events(transport)
    assert [each["alias"] for each in event["sessions"]] == ["n100-3"]
    assert event["matching"] == 3
    assert server.ask("GET", "/events?limit=0").status == 400


def test_the_number_of_event_streams_is_limited_and_a_closed_stream_makes_room(
    server: AdminServer,
) -> None:
    watching = [watch(server) for _ in range(WATCHERS)]
    refused = server.ask("GET", "/events")
    assert refused.status == 503
    assert refused.fields["Retry-After"] == "10"
    for protocol, _ in watching:
        protocol.connectionLost(Failure(ConnectionDone()))
    assert server.watching.watchers == 0
    # Nothing is left to be done but the time of the connection that was refused.
    assert len(server.reactor.getDelayedCalls()) == len(server.site.connections) == 1


def test_all_event_streams_together_use_a_small_share_of_the_time(server: AdminServer) -> None:
    # Making an event takes a fifth of a second.
    server.watching._clock = count(0.0, 0.2).__next__
    _, transport = watch(server)
    server.reactor.advance(3.9)
    server.let_run()
    assert len(events(transport)) == 1
    server.reactor.advance(0.2)
    server.let_run()
    assert len(events(transport)) == 2


def test_no_event_is_created_for_a_client_that_does_not_read(server: AdminServer) -> None:
    _, transport = watch(server)
    transport.producer.pauseProducing()
    for _ in range(5):
        server.reactor.advance(1)
        server.let_run()
    assert len(events(transport)) <= 2


def test_the_sessions_that_ended_last_are_listed_newest_first_and_bounded(
    server: AdminServer,
) -> None:
    for _ in range(NEWEST_ENDED + 2):
        server.node.open()
    for number in range(1, NEWEST_ENDED + 3):
        server.ask("DELETE", f"/sessions/n100-{number}")
    # A scrape forgets the others, not these.
    server.ask("GET", "/metrics/sessions")
    _, transport = watch(server)
    (event,) = events(transport)
    assert len(event["ended"]) == NEWEST_ENDED
    assert event["ended"][0]["alias"] == f"n100-{NEWEST_ENDED + 2}"
    assert event["ended"][0]["reason"] == "ended_by_operator"
    assert event["totals"]["started_at"] == pytest.approx(process_start(), abs=2)
    # Both by the gateway's clock: uptime is their difference.
    assert event["now"] == pytest.approx(1.7e9 + server.node.now)
