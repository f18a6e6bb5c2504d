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
