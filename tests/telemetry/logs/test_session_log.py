"""The first log record of a session."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogEvent, Logger, eventAsText

from gateway.errors import CapacityReached, Draining, UpstreamUnavailable
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.formatting import duration, in_quotes, reason_in_words, size
from gateway.telemetry.logs.refusals import RefusalLog
from gateway.telemetry.logs.session_log import SessionStartLog
from tests.helpers.fabricated_telemetry import Node


class Begun:
    """A node whose log lines are collected."""

    def __init__(self, **settings: Any) -> None:
        self.events: list[LogEvent] = []
        records = SessionStartLog()
        records._log = Logger("gateway.test", observer=self.events.append)  # type: ignore[misc, arg-type]
        self.node = Node(records=[records], **settings)

    @property
    def lines(self) -> list[str]:
        return [
            eventAsText(each, includeTimestamp=False, includeSystem=False) for each in self.events
        ]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("play", 'plays "live/test" by RTMPT on 0.0.0.0:80, from media:1935 (FMLE/3.0)'),
        ("publish", 'publishes "live/test" by RTMPT on 0.0.0.0:80, to media:1935 (FMLE/3.0)'),
    ],
)
def test_a_session_has_one_line_when_its_stream_is_known(action: str, words: str) -> None:
    begun = Begun()
    tunnel = begun.node.open()
    assert begun.lines == []
    facts = tunnel.figures.facts
    facts.action, facts.application, facts.stream = action, "live", "test"
    facts.flash_version = "FMLE/3.0"
    facts.notice()
    facts.notice()
    assert begun.lines == [f"session n100-1: 192.0.2.1 {words}"]
    tunnel.dismiss(EndReason.CLIENT_LOST)
    assert len(begun.lines) == 1
    assert begun.events[0]["stream"] == "test"
    assert "secret" not in repr(begun.events)


def test_the_line_of_a_session_names_the_proxy() -> None:
    begun = Begun()
    tunnel = begun.node.open()
    tunnel.figures.carried_by(None, b"1.1 cache")
    tunnel.figures.facts.action = "play"
    tunnel.figures.facts.notice()
    assert ', from media:1935, through "1.1 cache" (' in begun.lines[0]


def test_the_line_is_written_at_the_open_if_telemetry_is_disabled() -> None:
    begun = Begun(enabled=False)
    begun.node.open()
    (line,) = begun.lines
    assert "192.0.2.1 connected by RTMPT on 0.0.0.0:80, to media:1935" in line


def test_a_session_whose_stream_cannot_be_read_has_a_line() -> None:
    begun = Begun()
    tunnel = begun.node.open()
    assert begun.lines == []
    tunnel.write(b"\x06" + bytes(10))
    tunnel.write(bytes(10))
    (line,) = begun.lines
    assert "192.0.2.1 connected by RTMPT" in line


# --- Refused opens ---


def test_refused_opens_are_logged_as_warnings_by_cause() -> None:
    warned: list[tuple[str, str, dict[str, Any]]] = []

    def warn(_: Logger, cause: str, text: str, /, **fields: Any) -> None:
        warned.append((cause, text, fields))

    records = RefusalLog(warn)
    for error in (CapacityReached("sessions"), Draining("the gateway is draining")):
        for _ in range(2):
            records.refused(error, "192.0.2.1", Ingress("rtmpt", "0.0.0.0:80"))
    records.refused(UpstreamUnavailable("none took it"), "", Ingress("rtmps", "[::]:443"))
    assert len({cause for cause, _, _ in warned}) == 3
    _, text, fields = warned[0]
    assert text.format(**fields) == (
        "session refused: capacity reached (sessions), for 192.0.2.1 by RTMPT on 0.0.0.0:80"
    )


# --- Words ---


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_end_reason_has_a_description(reason: EndReason) -> None:
    words = reason_in_words(reason.value)
    assert words
    assert "_" not in words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.0099, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.0834, "83 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations_are_formatted_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9951, "10 kB"),
        (350_000, "350 kB"),
        (999_600, "1.0 MB"),
        (4_510_000_000, "4.5 GB"),
        (10**16, "10000 TB"),
    ],
)
def test_sizes_are_formatted_in_words(count: int, words: str) -> None:
    assert size(count) == words


def test_quotes_in_a_clients_text_are_escaped() -> None:
    assert in_quotes('a" by RTMPS') == '"a\\" by RTMPS"'
