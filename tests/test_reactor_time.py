from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from gateway.reactor_time import use_monotonic_time
from tests.helpers.turning import Turning


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    use_monotonic_time(turning.reactor)
    yield turning
    turning.close()


def test_timers_have_monotonic_times(turning: Turning) -> None:
    timer = turning.reactor.callLater(60.0, int)
    assert timer.getTime() == pytest.approx(monotonic() + 60.0, abs=1.0)
    timer.reset(30.0)
    assert timer.getTime() == pytest.approx(monotonic() + 30.0, abs=1.0)
    assert turning.reactor.timeout() == pytest.approx(30.0, abs=1.0)
    timer.cancel()


def test_timers_fire(turning: Turning) -> None:
    fired: list[float] = []
    began = monotonic()
    turning.reactor.callLater(0.02, lambda: fired.append(monotonic()))
    turning.until(lambda: fired)
    assert fired[0] - began >= 0.02
