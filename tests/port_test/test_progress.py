"""Live progress on a terminal."""

from __future__ import annotations

from io import StringIO

from gateway.port_test.observations import Step, Trial
from gateway.port_test.progress import Progress
from gateway.port_test.ways import Route
from tests.port_test.making import way, works


def trials() -> list[Trial]:
    return [works("rtmp"), Trial(way("rtmpt"), Route.IPV4, Step.OPEN)]


def test_a_drawing_replaces_the_one_before() -> None:
    terminal = StringIO()
    progress = Progress(terminal, 100, 24)
    progress.draw(trials())
    first = terminal.getvalue()
    assert first.count("\n") == 3
    assert "\x1b" not in first
    assert "opening the tunnel ..." in first
    progress.draw(trials())
    assert terminal.getvalue() == f"{first}\x1b[3A\r\x1b[J{first}"


def test_the_end_erases_the_drawing() -> None:
    terminal = StringIO()
    progress = Progress(terminal, 100, 24)
    progress.draw(trials())
    progress.erase()
    progress.erase()
    assert terminal.getvalue().endswith("\n\x1b[3A\r\x1b[J")


def test_no_line_is_as_wide_as_the_terminal() -> None:
    terminal = StringIO()
    Progress(terminal, 40, 24).draw(trials())
    assert all(len(line) <= 39 for line in terminal.getvalue().splitlines())


def test_a_terminal_with_few_lines_gets_a_count() -> None:
    terminal = StringIO()
    Progress(terminal, 80, 3).draw(trials())
    assert terminal.getvalue() == "1 of 2 ways have been tried ...\n"
