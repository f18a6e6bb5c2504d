"""Log lines: one for each event, escaped, bounded."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher

from gateway.protocols.reasons import EndReason
from gateway.telemetry.lines import BURST, Bucket, make_observer, one_line
from gateway.telemetry.records import EndRecords
from gateway.telemetry.summary import Summary
from tests.telemetry.fabricate import Node


class Log:
    """A log of its own with one observer."""

    def __init__(self, layout: str = "text", lines_per_s: float = 10, journald: bool = False):
        self.now = 0.0
        self.output = StringIO()
        observer = make_observer(layout, self.output, lines_per_s, lambda: self.now, journald)
        self.logger = Logger("gateway.test", observer=LogPublisher(observer))

    @property
    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()


@given(st.text())
def test_whatever_is_said_stays_one_line(text: str) -> None:
    log = Log()
    log.logger.info("said {text}", text=text)
    assert len(log.output.getvalue().splitlines()) == 1
    assert log.output.getvalue().isprintable() or set(log.output.getvalue()) > {"\n"}
    assert "\x1b" not in one_line(text)


def test_text_is_time_level_and_message() -> None:
    log = Log()
    log.logger.warn("careful: {what}", what="a\nb\x1b[31m")
    time, level, message = log.lines[0].split(maxsplit=2)
    assert time.endswith("Z")
    assert (level, message) == ("warn", "careful: a\\nb\\x1b[31m")


def test_under_journald_a_priority_stands_for_time_and_level() -> None:
    log = Log(journald=True)
    log.logger.error("broken")
    log.logger.info("fine")
    assert log.lines == ["<3>broken", "<6>fine"]


def test_json_is_one_object_a_line_with_the_events_own_fields() -> None:
    log = Log("json")
    log.logger.info("said {text}", text="a\nb\u2028", count=3, thing=object)
    (line,) = log.lines
    found: dict[str, Any] = json.loads(line)
    assert found["message"] == "said a\nb\u2028"
    assert (found["level"], found["namespace"], found["count"]) == ("info", "gateway.test", 3)
    assert not any(key.startswith("log_") for key in found)


def test_a_traceback_is_one_line_too() -> None:
    for layout in ("text", "json"):
        log = Log(layout)
        with log.logger.failuresHandled("it failed"):
            raise RuntimeError("cause")
        (line,) = log.lines
        assert "it failed" in line
        assert "RuntimeError" in line


def test_a_flood_is_cut_and_its_length_is_told() -> None:
    log = Log(lines_per_s=10)
    for _ in range(BURST + 500):
        log.logger.info("again")
    assert len(log.lines) == BURST
    log.now = 1.0
    log.logger.info("later")
    assert len(log.lines) == BURST + 2
    assert "500 log lines were left out" in log.lines[-2]
    log.logger.info("and on")
    assert "left out" not in log.lines[-1]


def test_errors_are_never_left_out() -> None:
    log = Log(lines_per_s=0.001)
    for _ in range(BURST + 5):
        log.logger.info("again")
    log.logger.critical("the end")
    assert log.lines[-1].endswith("the end")


def test_a_full_disk_stops_nobody() -> None:
    log = Log()
    log.output.close()
    log.logger.info("into the void")


@pytest.mark.parametrize("times", [1, 10, 1000])
def test_a_bucket_never_lets_more_through_than_burst_and_rate(times: int) -> None:
    now = [0.0]
    bucket = Bucket(5, 10, lambda: now[0])
    passed = 0
    for _ in range(times):
        passed += sum(bucket.take() for _ in range(20))
        now[0] += 1
    assert passed <= 10 + 5 * times
    assert passed >= min(20 * times, 10 + 5 * (times - 1))


def record_of_an_end(layout: str) -> str:
    """What a session that talked a little leaves in the log."""
    log = Log(layout)
    records = EndRecords()
    records._log = log.logger  # type: ignore[misc]
    node = Node(records=[records])
    tunnel = node.open()
    node.talk([tunnel], 5)
    facts = tunnel.figures.facts
    facts.action, facts.application, facts.stream, facts.drift_s = "play", "live", "a\nb{x}", 0.25
    tunnel.figures.carried_by(None, b"1.1 cache")
    tunnel.session.close(node.now)
    (line,) = log.lines
    assert "secret" not in line
    return line


def test_a_session_leaves_one_record_with_all_its_figures() -> None:
    found = json.loads(record_of_an_end("json"))
    assert {attribute.name for attribute in Summary.__attrs_attrs__} <= set(found)
    assert found["reason"] == "client_closed"
    assert found["alias"] == "n100-1"
    assert found["latencies"]["poll_gap"]["count"] == 4
    assert LogLevel.info.name == found["level"]


@pytest.mark.parametrize(
    "words",
    [
        "session n100-1 of 192.0.2.1 ended: client_closed after ",
        "; rtmpt on 0.0.0.0:80, upstream media:1935 in 0.0040 s, client 'evil\"",
        "; play 'live'/'a\\\\nb{x}'; by way of ['1.1 cache']; ",
        "5 bytes up, 5 down; 5 sends, 0 idles, 1 closes, 0 repeated, 0 reordered, on 1 connections; ",
        "; answers: 0 held, 1 empty, 4 filled; media drift 0.250; last/p50/p95/max: ",
        ", upstream_delay 0.0000/0.0000/0.0000/0.0000, poll_gap 0.",
    ],
)
def test_as_text_the_record_says_all_of_it_in_words(words: str) -> None:
    assert words in record_of_an_end("text")


def test_of_what_is_not_known_the_record_says_nothing() -> None:
    log = Log()
    records = EndRecords()
    records._log = log.logger  # type: ignore[misc]
    Node(records=[records]).open().dismiss(EndReason.CLIENT_LOST)
    for absent in ("None", "''", "by way", "round trip", "drift", "poll_gap"):
        assert absent not in log.lines[0]
