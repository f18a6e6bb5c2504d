"""The result as text for people: a table, the verdicts, and what to type into programs.

The table can be printed while trials run; each has its current step then.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.port_test.observations import Failure, Kind, Step, Trial
from gateway.port_test.order import addresses_to_type, best_first, recommended
from gateway.port_test.verdicts import bit_rate, remarks_on, verdict_on
from gateway.port_test.ways import Route, Target, Way

_HEADINGS: Final = ("way", "over", "connect", "TLS", "RTMP", "round trip", "result")
# In front of the result, if throughput is measured.
_MEASURED: Final = ("up", "down")
_GAP: Final = "  "
_INDENT: Final = "    "

_RESULTS: Final = {
    Kind.UNKNOWN_NAME: "unknown name",
    Kind.NO_NAME_SERVER: "no name server",
    Kind.NO_ANSWER: "no answer",
    Kind.REFUSED: "refused",
    Kind.UNREACHABLE: "no route",
    Kind.NOT_PERMITTED: "not permitted",
    Kind.CLOSED: "closed",
    Kind.SPEAKS_HTTP: "HTTP only",
    Kind.SPEAKS_TLS: "needs TLS",
    Kind.SPEAKS_OTHER: "not RTMP",
    Kind.NOT_TLS: "no TLS",
    Kind.TLS_REFUSED: "TLS refused",
    Kind.NOT_TRUSTED: "certificate",
    Kind.SELF_SIGNED: "certificate",
    Kind.EXPIRED: "certificate",
    Kind.OTHER_NAME: "certificate",
    Kind.NOT_A_TUNNEL: "web page",
    Kind.REJECTED: "rejected",
    Kind.INTERNAL: "error",
}
_ROUTES: Final = {Route.IPV4: "IPv4", Route.IPV6: "IPv6", Route.PROXY: "the proxy"}
_STEPS: Final = {
    Step.LOOK_UP: "looking up the name",
    Step.CONNECT: "connecting",
    Step.PROXY: "asking the proxy",
    Step.TLS: "starting TLS",
    Step.OPEN: "opening the tunnel",
    Step.HANDSHAKE: "shaking hands",
    Step.APPLICATION: "asking for the application",
    Step.STREAM: "playing",
    Step.ROUND_TRIP: "measuring",
    Step.HELD: "watching a held request",
    Step.THROUGHPUT: "measuring throughput",
}


def table_of(trials: Iterable[Trial]) -> list[str]:
    """The lines of the table, in the order of ``trials``."""
    shown = list(trials)
    rows = [_HEADINGS, *map(_row, shown)]
    if any(trial.throughput is not None for trial in shown):
        measured = [_MEASURED, *map(_throughput, shown)]
        rows = [(*row[:-1], *more, row[-1]) for row, more in zip(rows, measured, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def report_of(trials: Sequence[Trial], target: Target, took_s: float, width: int) -> list[str]:
    """The lines of the whole result, none wider than ``width`` except those of the table and of URLs."""
    ordered = best_first(trials)
    return [
        *_heading(trials, target, took_s),
        "",
        *table_of(ordered),
        *_section("Remarks", _by_sentence(ordered, remarks_on), width),
        *_section(
            "What is in between",
            _by_sentence(ordered, lambda trial, all_: [verdict_on(trial, all_)]),
            width,
        ),
        "",
        *_recommendation(ordered, target),
    ]


def _heading(trials: Sequence[Trial], target: Target, took_s: float) -> list[str]:
    addresses = {trial.route: trial.address for trial in trials if trial.address}
    known = ", ".join(
        f"{route.value} {addresses.get(route, 'none')}" for route in (Route.IPV4, Route.IPV6)
    )
    return [f"{target.host}: {known}; {took_s:.1f} s"]


def _row(trial: Trial) -> tuple[str, ...]:
    connect = Step.PROXY if trial.route is Route.PROXY else Step.CONNECT
    return (
        str(trial.way),
        trial.route.value,
        _ms(trial.times_ms.get(connect)),
        _tls(trial),
        _ms(trial.times_ms.get(Step.HANDSHAKE)),
        _ms(trial.round_trip_ms),
        _result(trial),
    )


def _throughput(trial: Trial) -> tuple[str, ...]:
    found = trial.throughput
    rates = (None, None) if found is None else (found.up, found.down)
    return tuple("-" if rate is None else bit_rate(rate) for rate in rates)


def _ms(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _tls(trial: Trial) -> str:
    certificate = trial.certificate
    if certificate is None:
        return "-"
    version = trial.tls_version.removeprefix("TLSv")
    return f"{version}, {certificate.days_left} days, {certificate.issuer[:32]}"


def _result(trial: Trial) -> str:
    if trial.step is not None:
        return f"{_STEPS[trial.step]} ..."
    if trial.failure is None:
        held = trial.holding.held_ms if trial.holding else None
        return "works" if held is None else f"works, holds for {held:.0f} ms"
    return _short(trial.failure)


def _short(failure: Failure) -> str:
    if failure.kind is Kind.STATUS:
        return f"answers {failure.status}"
    return _RESULTS[failure.kind]


def _by_sentence(
    trials: Sequence[Trial], sentences_on: Callable[[Trial, Sequence[Trial]], list[str]]
) -> dict[str, list[Trial]]:
    """Each sentence with the trials that it is about."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        for sentence in filter(None, sentences_on(trial, trials)):
            found.setdefault(sentence, []).append(trial)
    return found


def _named(trials: Sequence[Trial]) -> str:
    """The ways of the trials, those with the same routes together: ``rtmp:443, rtmps:443 over IPv4``."""
    routes: dict[Way, list[str]] = {}
    for trial in trials:
        routes.setdefault(trial.way, []).append(_ROUTES[trial.route])
    ways: dict[str, list[str]] = {}
    for way, names in routes.items():
        ways.setdefault(" and ".join(names), []).append(str(way))
    return "; ".join(f"{', '.join(each)} over {over}" for over, each in ways.items())


def _section(title: str, sentences: dict[str, list[Trial]], width: int) -> list[str]:
    if not sentences:
        return []
    lines = ["", f"{title}:"]
    for sentence, about in sentences.items():
        lines += textwrap.wrap(
            f"{_named(about)}: {sentence}.",
            width,
            initial_indent="  ",
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _recommendation(ordered: Sequence[Trial], target: Target) -> list[str]:
    best = recommended(ordered)
    if best is None:
        return ["No way works from here."]
    typed = addresses_to_type(ordered, target)
    widest = max(len(name) for name, _ in typed)
    return [
        f"Best: {_named([best])}. To type into programs:",
        *(f"  {name.ljust(widest)}  {text}" for name, text in typed),
    ]
