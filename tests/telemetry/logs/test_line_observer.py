"""Log lines: format, escaping, limit."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher

from gateway.logs import debugging
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.line_observer import BURST, Bucket, make_observer, one_line
from gateway.telemetry.logs.session_log import SessionEndLog
from gateway.telemetry.summary import Summary
from tests.helpers.fabricated_telemetry import Node


class Log:
    """A separate log with one observer."""

    def __init__(self, layout: str = "text", lines_per_s: float = 10, journald: bool = False):
        self.now = 0.0
        self.output = StringIO()
        observer = make_observer(layout, self.output, lines_per_s, lambda: self.now, journald)
        self.logger = Logger("gateway.test", observer=LogPublisher(observer))

    @property
    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()


@given(st.text())
def test_every_event_is_one_line(text: str) -> None:
    log = Log()
    log.logger.info("said {text}", text=text)
    assert len(log.output.getvalue().splitlines()) == 1
    assert log.output.getvalue().isprintable() or set(log.output.getvalue()) > {"\n"}
    assert "\x1b" not in one_line(text)


def test_a_text_line_has_time_level_and_message() -> None:
    log = Log()
    log.logger.warn("careful: {what}", what="a\nb\x1b[31m")
    time, level, message = log.lines[0].split(maxsplit=2)
    assert time.endswith("Z")
    assert (level, message) == ("warn", "careful: a\\nb\\x1b[31m")


def test_a_line_for_journald_has_a_priority_instead_of_time_and_level() -> None:
    log = Log(journald=True)
    log.logger.error("broken")
    log.logger.info("fine")
    assert log.lines == ["<3>broken", "<6>fine"]


@pytest.mark.parametrize("character", ["a", "\x00", "\U0001f600"])
def test_a_json_line_that_is_too_long_is_one_object_with_the_beginning_of_its_message(
    character: str,
) -> None:
    log = Log("json")
    log.logger.info("said {text}", text=character * 64_000)
    assert len(log.lines[0]) <= 16 * 1024
    line = json.loads(log.lines[0])
    assert (line["level"], line["namespace"]) == ("info", "gateway.test")
    assert line["message"] == "said " + character * 995


def test_a_json_line_is_one_object_with_the_fields_of_the_event() -> None:
    log = Log("json")
    log.logger.info("said {text}", text="a\nb\u2028", count=3, thing=object)
    (line,) = log.lines
    found: dict[str, Any] = json.loads(line)
    assert found["message"] == "said a\nb\u2028"
    assert (found["level"], found["namespace"], found["count"]) == ("info", "gateway.test", 3)
    assert not any(key.startswith("log_") for key in found)


def test_a_traceback_is_written_as_one_line() -> None:
    for layout in ("text", "json"):
        log = Log(layout)
        with log.logger.failuresHandled("it failed"):
            raise RuntimeError("cause")
        (line,) = log.lines
        assert "it failed" in line
        assert "RuntimeError" in line


def test_a_flood_of_lines_is_limited_and_counted() -> None:
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


def test_errors_have_reserved_lines_and_a_limit() -> None:
    log = Log(lines_per_s=0.001)
    for _ in range(BURST + 5):
        log.logger.info("again")
    log.logger.critical("the end")
    assert log.lines[-1].endswith("the end")
    for _ in range(BURST):
        log.logger.error("caused by a client")
    assert BURST < len(log.lines) < BURST + 200


def test_debug_lines_use_at_most_half_of_the_limit() -> None:
    log = Log(lines_per_s=0.001)
    for _ in range(2 * BURST):
        log.logger.debug("detail")
    assert len(log.lines) == BURST // 2
    log.logger.info("of weight")
    assert log.lines[-1].endswith("of weight")


@pytest.mark.parametrize("level", list(LogLevel.iterconstants()))
def test_lines_of_any_level_are_limited(level: LogLevel) -> None:
    log = Log(lines_per_s=10)
    for second in range(10):
        log.now = float(second)
        for _ in range(1000):
            log.logger.emit(level, "caused by a client")
    # One line beside each says how many were left out.
    assert len(log.lines) <= BURST + 100 + 2 * 10 * 10


def test_a_write_to_a_full_disk_raises_no_exception() -> None:
    log = Log()
    log.output.close()
    log.logger.info("into the void")


@pytest.mark.parametrize("times", [1, 10, 1000])
def test_a_token_bucket_permits_no_more_than_burst_and_rate(times: int) -> None:
    now = [0.0]
    bucket = Bucket(5, 10, lambda: now[0])
    passed = 0
    for _ in range(times):
        passed += sum(bucket.take() for _ in range(20))
        now[0] += 1
    assert passed <= 10 + 5 * times
    assert passed >= min(20 * times, 10 + 5 * (times - 1))


def lines_of_a_session(layout: str, debug: bool = False) -> list[str]:
    """The log lines at the end of a short session."""
    log = Log(layout)
    records = SessionEndLog()
    records._log = log.logger  # type: ignore[misc]
    debugging.enabled = debug
    node = Node(records=[records])
    tunnel = node.open()
    node.talk([tunnel], 5)
    facts = tunnel.figures.facts
    facts.action, facts.application, facts.stream, facts.drift_s = "play", "live", "a\nb{x}", 0.25
    tunnel.figures.carried_by(None, b"1.1 cache")
    tunnel.session.close(node.now)
    assert "secret" not in log.output.getvalue()
    return log.lines


def test_an_ended_session_has_one_record_with_all_its_figures() -> None:
    (line,) = lines_of_a_session("json")
    found = json.loads(line)
    assert {attribute.name for attribute in Summary.__attrs_attrs__} <= set(found)
    assert found["reason"] == "client_closed"
    assert found["alias"] == "n100-1"
    assert found["latencies"]["poll_gap"]["count"] == 4
    assert LogLevel.info.name == found["level"]
    assert found["message"].startswith("session n100-1 ended: closed by the client after 1.5 s; ")


def test_the_record_of_a_session_is_short_in_text_format() -> None:
    (line,) = lines_of_a_session("text")
    _, _, message = line.split(maxsplit=2)
    assert re.fullmatch(
        "session n100-1 ended: closed by the client after 1.5 s; 5 B up, 5 B down; "
        r"downstream wait \d+ ms, 95 % under \d+ ms",
        message,
    )


def test_without_a_known_stream_the_record_names_the_client() -> None:
    log = Log()
    records = SessionEndLog()
    records._log = log.logger  # type: ignore[misc]
    Node(records=[records]).open().dismiss(EndReason.ABANDONED)
    assert (
        "ended: opened but never used after 4.0 ms; 0 B up, 0 B down; 192.0.2.1 connected by RTMPT on"
        " 0.0.0.0:80, to media:1935 (evil"
    ) in log.lines[0]


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
def test_at_level_debug_a_second_line_has_all_figures(words: str) -> None:
    short, long = lines_of_a_session("text", debug=True)
    assert words in long
    assert words not in short


def test_the_records_omit_unknown_figures() -> None:
    log = Log()
    records = SessionEndLog()
    records._log = log.logger  # type: ignore[misc]
    debugging.enabled = True
    Node(records=[records]).open().dismiss(EndReason.CLIENT_LOST)
    assert len(log.lines) == 2
    for absent in ("None", "''", "by way", "round trip", "drift", "poll_gap"):
        assert absent not in "".join(log.lines)
