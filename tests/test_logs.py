"""Rate-limited warnings: the first at once, then one a minute for each cause."""

from __future__ import annotations

from twisted.logger import LogEvent, Logger, eventAsText

from gateway.logs import RepeatedWarnings


class Warned:
    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[LogEvent] = []
        self.repeated = RepeatedWarnings(lambda: self.now)
        self._logger = Logger("gateway.test", observer=self.events.append)  # type: ignore[arg-type]

    def warn(self, cause: str, who: str = "a") -> None:
        self.repeated.warn(self._logger, cause, "refused: {cause}, {who}", cause=cause, who=who)

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.repeated.flush()

    @property
    def lines(self) -> list[str]:
        return [
            eventAsText(each, includeTimestamp=False, includeSystem=False) for each in self.events
        ]


def test_repeated_warnings_give_one_line_a_minute_with_their_count() -> None:
    warned = Warned()
    for number in range(1000):
        warned.warn("full", f"client {number}")
    assert warned.lines == ["refused: full, client 0"]
    warned.passes(59)
    assert len(warned.lines) == 1
    warned.passes(1)
    assert warned.lines[1:] == ["refused: full, client 999 (the last of 999 in the last minute)"]


def test_continuous_warnings_give_one_line_a_minute() -> None:
    warned = Warned()
    for _ in range(600):
        warned.warn("full")
        warned.passes(1)
    assert len(warned.lines) == 11


def test_a_single_warning_has_no_second_line_and_the_next_is_immediate() -> None:
    warned = Warned()
    warned.warn("full")
    warned.passes(61)
    assert len(warned.lines) == 1
    warned.warn("full", "b")
    assert warned.lines[1:] == ["refused: full, b"]


def test_each_cause_is_limited_separately() -> None:
    warned = Warned()
    warned.warn("full")
    warned.warn("draining")
    assert len(warned.lines) == 2
