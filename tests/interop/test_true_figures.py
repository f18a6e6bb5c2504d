"""A known delay shows in its own latency, and in no other.

The test plays client and media server (paths.py). On a busy machine a delay is a little longer than
requested, so each delay is measured. The figures are those that operators get from the
admin server.
"""

from __future__ import annotations

from statistics import median
from threading import Thread
from time import perf_counter, sleep
from typing import Any

import pytest

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.messages import UserControl, user_control
from tests.helpers.interop.paths import MediaServer, path
from tests.helpers.interop.programs import Programs, until

_ROUNDS = 20
_TRUE_WITHIN = 0.1


def delay(seconds: float) -> float:
    """Sleep for the rest of this time, if any. Returns the measured time."""
    began = perf_counter()
    sleep(max(0.0, seconds))
    return perf_counter() - began


def about(seconds: float) -> Any:
    return pytest.approx(seconds, rel=_TRUE_WITHIN)


def others(figures: dict[str, Any], *known: str) -> dict[str, float]:
    """The 95th percentiles of all latencies but the ``known`` ones, and those that have one value only."""
    found = {name: value["p95_s"] for name, value in figures["latencies"].items()}
    found["upstream_connect"] = figures["upstream_connect_s"]
    found["round_trip"] = figures["tcp"]["round_trip_s"]
    return {name: value for name, value in found.items() if name not in known}


def assert_in_no_other(seconds: float, figures: dict[str, Any], *known: str) -> None:
    rest = others(figures, *known)
    assert max(rest.values()) < _TRUE_WITHIN * seconds, rest


# --- The client ---


def test_a_client_that_waits_between_polls_shows_in_the_poll_gap(programs: Programs) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        delays_s = []
        for _ in range(_ROUNDS):
            end_to_end.poll(b"data")
            delays_s.append(delay(0.2))
        figures = end_to_end.figures
    assert figures["latencies"]["poll_gap"]["p50_s"] == about(median(delays_s))
    assert figures["latencies"]["downstream_wait"]["count"] == _ROUNDS
    assert_in_no_other(0.2, figures, "poll_gap")


# --- A proxy ---


def test_a_proxy_that_delays_shows_in_poll_gap_and_client_ping(programs: Programs) -> None:
    with path(programs, MediaServer(), proxy_s=0.1) as end_to_end:
        end_to_end.open()
        end_to_end.shake_hands()
        up, down = ChunkWriter(), ChunkWriter()
        for number in range(_ROUNDS):
            end_to_end.poll(down.write(user_control(UserControl.PING_REQUEST, number)))
            end_to_end.client.send(up.write(user_control(UserControl.PING_RESPONSE, number)))
            end_to_end.client.answer()
        figures = end_to_end.figures
        delay_s = median(end_to_end.proxies[0].delays_s)
    assert figures["latencies"]["poll_gap"]["p50_s"] == about(delay_s)
    assert figures["latencies"]["ping_client"]["p50_s"] == about(delay_s)
    assert figures["latencies"]["ping_client"]["count"] == _ROUNDS
    assert_in_no_other(0.1, figures, "poll_gap", "ping_client")


# --- The media server ---


def test_a_media_server_that_answers_late_shows_in_the_upstream_ping(programs: Programs) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        end_to_end.shake_hands()
        up, down = ChunkWriter(), ChunkWriter()
        delays_s = []
        for number in range(_ROUNDS):
            ping = up.write(user_control(UserControl.PING_REQUEST, number))
            end_to_end.client.send(ping)
            end_to_end.client.answer()
            end_to_end.server.hears(len(ping))
            heard_at = perf_counter()
            end_to_end.client.idle()
            end_to_end.is_in("holding")
            delay(0.15 - (perf_counter() - heard_at))
            delays_s.append(perf_counter() - heard_at)
            end_to_end.server.says(down.write(user_control(UserControl.PING_RESPONSE, number)))
            end_to_end.client.answer()
        figures = end_to_end.figures
    assert figures["latencies"]["ping_upstream"]["p50_s"] == about(median(delays_s))
    assert figures["latencies"]["ping_upstream"]["count"] == _ROUNDS
    assert_in_no_other(0.15, figures, "ping_upstream")


def test_a_media_server_that_reads_late_shows_in_the_upstream_delay(programs: Programs) -> None:
    body = bytes(256 * 1024)
    with path(programs, MediaServer(receive_bytes=16 * 1024)) as end_to_end:
        end_to_end.open()
        client = end_to_end.client
        sent = 0
        while True:
            client.send(body)
            began = perf_counter()
            sent += len(body)
            until(
                lambda: client.is_answered or end_to_end.figures["state"] == "keeping",
                "the send is answered, or kept",
            )
            if not client.is_answered:
                break
            client.answer()
        delay(0.6 - (perf_counter() - began))
        reader = Thread(target=end_to_end.server.hears, args=(sent,))
        reader.start()
        client.answer()
        delay_s = perf_counter() - began
        reader.join()
        figures = end_to_end.figures
    assert delay_s >= 0.6
    found = figures["latencies"]["upstream_delay"]
    assert found["last_s"] == about(delay_s)
    # The maximum is the middle of the last value's bucket.
    assert found["max_s"] == about(found["last_s"])
    assert found["p50_s"] == 0.0
    assert_in_no_other(delay_s, figures, "upstream_delay")


def test_a_media_server_that_accepts_late_shows_in_the_connect_time(programs: Programs) -> None:
    """Its accept queue is full: the gateway's kernel repeats the SYN after a second."""
    with path(programs, MediaServer()) as end_to_end, end_to_end.server.fill():
        opening = Thread(target=end_to_end.client.open)
        began = perf_counter()
        opening.start()
        delay(0.5)
        end_to_end.server.accept()
        opening.join()
        delay_s = perf_counter() - began
        end_to_end.server.accept()
        for _ in range(_ROUNDS):
            end_to_end.poll(b"data")
        figures = end_to_end.figures
        metrics = end_to_end.gateway.get("/metrics")
    assert delay_s >= 0.5
    assert figures["upstream_connect_s"] == about(delay_s)
    assert 'upstream_connect_seconds_count{protocol="rtmpt"} 1.0\n' in metrics
    assert_in_no_other(delay_s, figures, "upstream_connect")
