"""The least level that is logged."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogLevel

from gateway.telemetry.levels import Threshold


@pytest.mark.parametrize(
    ("least", "passed"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("warn", ["warn", "error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_what_is_at_least_the_level_passes(least: str, passed: list[str]) -> None:
    seen: list[Any] = []
    threshold = Threshold(seen.append, least)
    for level in LogLevel.iterconstants():
        threshold({"log_level": level})
    assert [event["log_level"].name for event in seen] == passed


def test_it_changes_while_it_runs_and_an_event_without_level_is_information() -> None:
    seen: list[Any] = []
    threshold = Threshold(seen.append, "info")
    threshold({})
    threshold.level = "warn"
    threshold({})
    assert len(seen) == 1
    assert threshold.level == "warn"
