"""Sessions get the upstreams of their routes."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred

from gateway.protocols.http import Fields
from gateway.protocols.ingress import RTMPT, Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.networks import Networks
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Route, Routes
from gateway.telemetry.sessions import Sessions
from gateway.tunnels.introducing import Means
from gateway.tunnels.routing import Router
from tests.helpers.logged import logged
from tests.tunnels.introductions import C0_C1, LIMITS, Bench, Make, RelayedClient, TunnelledClient


@frozen
class Session:
    opening_fields: Fields | None = None
    ingress: Ingress = RTMPT
    address: str = "192.0.2.7"
    server: str = ""
    counted: Any = None

    def dismiss(self, reason: EndReason) -> None:
        raise NotImplementedError


def fields(host: bytes) -> Fields:
    return Fields(1, ((b"host", host),), 0, False, True, False)


@pytest.mark.parametrize(
    ("session", "upstreams"),
    [
        (Session(fields(b"a.example:80")), ("by host", "reserve")),
        (Session(ingress=Ingress("rtmps", "x", "a.example")), ("by name",)),
        (Session(ingress=Ingress("rtmp", "0.0.0.0:80")), ("by listener",)),
        (Session(address="10.0.0.1"), ("by network",)),
        (Session(), ()),
    ],
)
def test_a_session_is_connected_to_the_upstreams_of_its_route(
    session: Session, upstreams: tuple[str, ...]
) -> None:
    asked: list[tuple[Any, ...]] = []

    async def connect(*arguments: Any) -> str:
        asked.append(arguments)
        return "media:1935"

    routes = Routes(
        [
            Route(("by host", "reserve"), hosts=("a.example",)),
            Route(("by name",), server_names=("a.example",)),
            Route(("by listener",), listeners=("0.0.0.0:80",)),
            Route(("by network",), clients=Networks.of([ip_network("10.0.0.0/8")])),
        ]
    )
    router = Router(routes, Means(connect, Limits(), float, list, bytes, Sessions(float, float)))
    protocol = object()
    connecting = Deferred.fromCoroutine(router.connect(protocol, session))
    assert connecting.result == "media:1935"
    assert asked == [(protocol, session.address, upstreams)]


class FaultyBench(Bench):
    """An observer that fails at the end of the first session."""

    def session_ended(self, session: Any, reason: EndReason) -> None:
        super().session_ended(session, reason)
        if len(self.ends) == 1:
            raise RuntimeError("a fault")


@pytest.mark.parametrize("make", [RelayedClient, TunnelledClient])
def test_a_session_whose_deadline_fails_does_not_keep_others_from_theirs(make: Make) -> None:
    bench = FaultyBench()
    for _ in range(3):
        make(bench).says(C0_C1)
    with logged() as lines:
        bench.passes(LIMITS.unused_session_s)
    assert bench.ends == [EndReason.ABANDONED] * 3
    assert bench.kept == 0
    assert [line.partition("\n")[0] for line in lines] == [
        "critical: A session without a server failed and ends"
    ]
