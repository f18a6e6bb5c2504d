"""The lowest level that is logged."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogLevel

from gateway.logs import debugging
from gateway.telemetry.logs.level_filter import LevelFilter


@pytest.mark.parametrize(
    ("least", "passed"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("warn", ["warn", "error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_events_at_or_above_the_level_are_logged(least: str, passed: list[str]) -> None:
    seen: list[Any] = []
    threshold = LevelFilter(seen.append, least)
    for level in LogLevel.iterconstants():
        threshold({"log_level": level})
    assert [event["log_level"].name for event in seen] == passed


def test_the_level_changes_at_run_time_and_an_event_without_level_is_info() -> None:
    seen: list[Any] = []
    threshold = LevelFilter(seen.append, "info")
    threshold({})
    threshold.level = "warn"
    threshold({})
    assert len(seen) == 1
    assert threshold.level == "warn"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_debug_lines_are_created_only_at_level_debug(level: str) -> None:
    threshold = LevelFilter(lambda _: None, "warn")
    assert not debugging.enabled
    threshold.level = level
    assert debugging.enabled == (level == "debug")


def test_twisteds_info_events_count_as_debug() -> None:
    seen: list[Any] = []
    threshold = LevelFilter(seen.append, "info")
    noise = {"log_level": LogLevel.info, "log_namespace": "twisted.internet.tcp.Port"}
    threshold(noise)
    threshold({**noise, "log_namespace": "log_legacy"})
    assert seen == []
    threshold({**noise, "log_level": LogLevel.warn})
    threshold({**noise, "log_namespace": "gateway.service"})
    assert len(seen) == 2
    threshold.level = "debug"
    threshold(noise)
    assert seen[-1]["log_level"] is LogLevel.debug
