"""The order of the ways, best first, and the URLs to type into programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import evolve, frozen

from gateway.port_test.observations import Delivery, Step, Trial
from gateway.port_test.ways import Protocol, Route, Target

# Each layer costs: TLS a round trip, a tunnel the time of its polls.
_PROTOCOLS: Final = (Protocol.RTMP, Protocol.RTMPS, Protocol.RTMPT, Protocol.RTMPTS)
_SAME_PATH_MS: Final = 50
# The order of failed ways: by the step that they have reached.
_STEPS: Final = tuple(Step)
_ALL: Final = frozenset(Protocol)


@frozen
class _Program:
    """A program: the protocols that it has, whether it uses HTTP proxies, and what to type into it."""

    name: str
    protocols: frozenset[Protocol]
    proxied: bool
    form: str


_PROGRAMS: Final = (
    _Program(
        "OBS, encoders",
        frozenset({Protocol.RTMP, Protocol.RTMPS}),
        False,
        "server {server}, stream key {stream}",
    ),
    _Program("FFmpeg", _ALL, True, "{server}/{stream}"),
    _Program("Flash Player", _ALL - {Protocol.RTMPS}, True, "connect to {server}, stream {stream}"),
)


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """Those that work, the least disturbed and simplest first; then the others by how far they came."""
    return sorted(trials, key=_rank)


def recommended(trials: Iterable[Trial]) -> Trial | None:
    """The best one that works."""
    ordered = best_first(trials)
    return ordered[0] if ordered and ordered[0].works else None


def addresses_to_type(trials: Iterable[Trial], target: Target) -> list[tuple[str, str]]:
    """Programs, and what to type into each, by the best way that each can use."""
    works = [trial for trial in best_first(trials) if trial.works]
    typed = []
    for program in _PROGRAMS:
        usable = next((trial for trial in works if _uses(program, trial)), None)
        if usable is not None:
            typed.append((program.name, _to_type(program, usable, target)))
    return typed


def _uses(program: _Program, trial: Trial) -> bool:
    proxied = trial.route is Route.PROXY
    return trial.way.protocol in program.protocols and (program.proxied or not proxied)


def _to_type(program: _Program, trial: Trial, target: Target) -> str:
    server = evolve(target, application=target.application or "APP").url(trial.way)
    if program.name == "Flash Player":
        # Its rtmps is the tunnel in TLS (PROTOCOL.md, The exchange).
        server = server.replace("rtmpts://", "rtmps://")
    through = ", through the proxy" if trial.route is Route.PROXY else ""
    return program.form.format(server=server, stream=target.stream or "STREAM") + through


def _rank(trial: Trial) -> tuple[object, ...]:
    return (
        not trial.works,
        _disturbed(trial),
        -_progress(trial),
        trial.route is Route.PROXY,
        _PROTOCOLS.index(trial.way.protocol),
        # A clearly longer path; smaller differences are noise, and the sort leaves the usual order.
        (trial.round_trip_ms or 0) // _SAME_PATH_MS,
    )


def _disturbed(trial: Trial) -> bool:
    holding = trial.holding
    return holding is not None and (
        holding.closes or holding.cut_after_ms is not None or holding.delivery is Delivery.BUFFERED
    )


def _progress(trial: Trial) -> int:
    if trial.failure is None:
        return len(_STEPS)
    return _STEPS.index(trial.failure.step)
