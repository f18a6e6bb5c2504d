"""Exceptions in callbacks are counted, and logged once a minute."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.logs.unraisable import UnraisableExceptions, unraisable
from tests.helpers.fabricated_telemetry import Node


class Failing:
    def __del__(self) -> None:
        raise ValueError("in a finalizer")


def test_unraisable_exceptions_are_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", None)
    warned: list[dict[str, Any]] = []
    exceptions = UnraisableExceptions(lambda _, cause, text, **fields: warned.append(fields))
    exceptions.install()
    for _ in range(3):
        Failing()
    gc.collect()
    assert exceptions.count == 3
    assert warned[0]["error"] == "ValueError('in a finalizer')"
    assert "Failing.__del__" in warned[0]["where"]
    assert capfd.readouterr().err == ""


def test_the_metrics_have_the_number_of_unraisable_exceptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unraisable, "count", 7)
    families = {each.name: each for each in Node().metrics.families() if each is not None}
    (sample,) = families[PREFIX + "unraisable_exceptions"].samples
    assert sample.value == 7
