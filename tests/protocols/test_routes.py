"""The choice of a route by what is known of a client at its open."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.protocols.networks import Networks
from gateway.protocols.routes import Caller, Route, Routes

CALLER = Caller("0.0.0.0:80", "Media.example.org:8080", "tls.example.org", "192.0.2.7")


@pytest.mark.parametrize(
    "route",
    [
        Route(("a",)),
        Route(("a",), listeners=("[::]:80", "0.0.0.0:80")),
        Route(("a",), hosts=("media.example.org",)),
        Route(("a",), hosts=("other", "*.example.org")),
        Route(("a",), hosts=("*.org",)),
        Route(("a",), server_names=("*.example.org",)),
        Route(("a",), clients=Networks.of([ip_network("192.0.2.0/24")])),
    ],
)
def test_a_route_admits_a_client_that_matches_its_conditions(route: Route) -> None:
    assert route.admits(CALLER)


@pytest.mark.parametrize(
    "route",
    [
        Route(("a",), listeners=("[::]:80",)),
        Route(("a",), hosts=("example.org",)),
        Route(("a",), hosts=("*.media.example.org",)),
        Route(("a",), hosts=("*.edia.example.org",)),
        Route(("a",), server_names=("media.example.org",)),
        Route(("a",), clients=Networks.of([ip_network("10.0.0.0/8")])),
        Route(("a",), listeners=("0.0.0.0:80",), hosts=("other",)),
    ],
)
def test_one_condition_that_does_not_match_is_enough(route: Route) -> None:
    assert not route.admits(CALLER)


def test_a_client_without_names_and_address_matches_no_condition_on_them() -> None:
    conditions = [
        Route(("a",), hosts=("*.org",)),
        Route(("a",), server_names=("*.org",)),
        Route(("a",), clients=Networks.of([ip_network("0.0.0.0/0"), ip_network("::/0")])),
    ]
    assert not any(route.admits(Caller()) for route in conditions)
    assert Route(("a",)).admits(Caller())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a.example:80", "a.example"),
        ("a.example:", "a.example"),
        ("A.EXAMPLE", "a.example"),
        ("[2001:db8::1]:80", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_the_port_of_a_host_and_its_case_do_not_count(host: str, name: str) -> None:
    assert Route(("a",), hosts=(name,)).admits(Caller(host=host))


def test_the_first_route_that_matches_is_used() -> None:
    routes = Routes(
        [
            Route(("first",), hosts=("other",)),
            Route(("second",), listeners=("0.0.0.0:80",)),
            Route(("third",)),
        ]
    )
    found = [routes.first(CALLER), routes.first(Caller())]
    assert [route.upstreams if route else () for route in found] == [("second",), ("third",)]
    assert Routes().first(CALLER) is None
