"""Calls that are repeated whatever faults they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock

import gateway
from gateway.periodic_calls import periodic_call
from tests.helpers.logged import logged


def _raise() -> None:
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize("fault", [_raise, lambda: fail(ZeroDivisionError("oops"))])
def test_a_call_is_repeated_after_a_fault(fault: Callable[[], Any]) -> None:
    clock = Clock()
    calls: list[float] = []

    def call() -> Any:
        calls.append(clock.seconds())
        return fault() if len(calls) == 2 else succeed(None)

    timer = periodic_call(call, clock)
    timer.start(1.0, now=False)
    with logged() as lines:
        clock.pump([1.0] * 4)
    assert calls == [1.0, 2.0, 3.0, 4.0]
    assert [line.partition("\n")[0] for line in lines] == ["critical: a periodic call failed"]
    timer.stop()
    assert not clock.getDelayedCalls()


def test_no_other_timer_of_the_gateway_ends_with_a_fault() -> None:
    folder = Path(gateway.__file__).parent
    users = [path for path in folder.rglob("*.py") if "= LoopingCall(" in path.read_text("utf-8")]
    assert [path.name for path in users] == ["periodic_calls.py"]
