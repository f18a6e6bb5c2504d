"""Trials with chosen facts."""

from __future__ import annotations

from gateway.port_test.observations import Certificate, Failure, Kind, Step, Trial
from gateway.port_test.ways import Route, Way, parse_way

CERTIFICATE = Certificate("media.example.org", "Public CA", ("media.example.org",), 60)


def way(text: str) -> Way:
    return parse_way(text)


def works(text: str, route: Route = Route.IPV4, round_trip_ms: float = 10.0) -> Trial:
    """A trial that has ended well."""
    return Trial(
        way(text),
        route,
        step=None,
        address="192.0.2.1",
        times_ms={Step.LOOK_UP: 1.0, Step.CONNECT: 2.0, Step.HANDSHAKE: 3.0},
        round_trip_ms=round_trip_ms,
    )


def failed(
    text: str,
    step: Step,
    kind: Kind,
    *,
    detail: str = "",
    status: int | None = None,
    route: Route = Route.IPV4,
) -> Trial:
    """A trial that has ended with a failure."""
    failure = Failure(step, kind, detail, status)
    return Trial(way(text), route, step=None, address="192.0.2.1", failure=failure)
