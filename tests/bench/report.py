"""Tables from the results of all rounds, for a terminal or for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from attrs import frozen

from .scenarios import Better, Figure, Result, Scenario, Target

# Above this share of a core, other work on the machine makes a result say little.
FOREIGN_SHARE = 0.10


@frozen
class Round:
    """The results of one round: the contender's, and the reference's right after it."""

    contender: Result
    reference: Result | None = None

    @property
    def foreign(self) -> float:
        """The largest share of a core that other load used meanwhile."""
        return max(result.get("foreign", 0.0) for result in (self.contender, self.reference or {}))


@frozen
class Spread:
    """Median, minimum and maximum over several rounds."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@frozen
class Row:
    """One figure of one scenario, over all rounds. Ratios are taken within a round."""

    figure: Figure
    contender: Spread
    reference: Spread | None
    ratio: Spread | None
    disturbed: bool

    @property
    def verdict(self) -> str:
        if self.figure.target is None:
            return ""
        if self.disturbed:
            return "disturbed"
        return "met" if _meets(self.figure.target, self) else "missed"


def rows(scenario: Scenario, rounds: Sequence[Round]) -> list[Row]:
    return [_row(figure, rounds) for figure in scenario.figures]


def _row(figure: Figure, rounds: Sequence[Round]) -> Row:
    ours = [figure.of(each.contender) for each in rounds]
    disturbed = max(each.foreign for each in rounds) > FOREIGN_SHARE
    theirs = [figure.of(each.reference) for each in rounds if each.reference is not None]
    if not theirs:
        return Row(figure, Spread.of(ours), None, None, disturbed)
    ratios = [one / other if other else 0.0 for one, other in zip(ours, theirs, strict=True)]
    return Row(figure, Spread.of(ours), Spread.of(theirs), Spread.of(ratios), disturbed)


def _meets(target: Target, row: Row) -> bool:
    if target.better is Better.AT_LEAST:
        return row.contender.middle >= target.bound
    if target.better is Better.AT_MOST:
        return row.contender.middle <= target.bound
    if row.ratio is None:
        return False
    if target.better is Better.RATIO_AT_LEAST:
        return row.ratio.middle >= target.bound
    return row.ratio.middle <= target.bound


def _headings(scenario: Scenario) -> tuple[str, ...]:
    reference = scenario.reference.label if scenario.reference else ""
    ratio = "ratio" if scenario.reference else ""
    return ("", scenario.contender.label, reference, ratio, "target", "")


def _cells(row: Row) -> tuple[str, ...]:
    unit = f" {row.figure.unit}"
    digits = row.figure.digits
    return (
        row.figure.label,
        _show(row.contender, digits) + unit,
        _show(row.reference, digits) + unit if row.reference else "",
        _show(row.ratio, 2) if row.ratio else "",
        str(row.figure.target) if row.figure.target else "",
        row.verdict,
    )


def _show(spread: Spread, digits: int) -> str:
    """``34.1 (30.2 to 41.7)``; without the spread when there was one round."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (spread.middle, spread.least, spread.most)
    )
    return middle if spread.least == spread.most else f"{middle} ({least} to {most})"


def text(scenario: Scenario, of_scenario: Iterable[Row], notes: Iterable[str]) -> str:
    """A scenario's part of the report, for a terminal."""
    lines = [_headings(scenario), *map(_cells, of_scenario)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([scenario.heading, *(f"  {line}" for line in (*table, *notes)), ""])


def markdown(scenario: Scenario, of_scenario: Iterable[Row], notes: Iterable[str]) -> str:
    """The same for a Markdown file."""
    headings, title = _headings(scenario), scenario.heading
    lines = [headings, ("---",) * len(headings), *map(_cells, of_scenario)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([f"**{title[0].upper()}{title[1:]}**", table, *notes]) + "\n"
