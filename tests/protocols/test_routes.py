"""The choice of a route by what is known of a client at its open."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.protocols.networks import Networks
from gateway.protocols.routes import Caller, Route, Routes, needs_stream, select
from gateway.protocols.rtmp.commands import application_of

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


def names(*routes: Route) -> list[str]:
    return [route.upstreams[0] for route in routes]


def test_the_candidates_end_with_the_first_route_that_does_not_depend_on_the_application() -> None:
    routes = Routes(
        [
            Route(("other host",), hosts=("other",)),
            Route(("live",), listeners=("0.0.0.0:80",), applications=["live"]),
            Route(("vod",), applications=["vod*"]),
            Route(("all",), rewriting={"app": "x"}),
            Route(("never",)),
        ]
    )
    candidates = routes.candidates(CALLER)
    assert names(*candidates) == ["live", "vod", "all"]
    assert names(*routes.candidates(Caller())) == ["vod", "all"]
    assert all(route.reads_connect for route in candidates)
    assert Routes().candidates(CALLER) == ()
    chosen = [select(candidates, each) for each in ("live", "vod/x", "else", "", None)]
    assert names(*filter(None, chosen)) == ["live", "vod", "all", "all", "all"]


def test_without_a_matching_application_there_is_no_route() -> None:
    candidates = Routes([Route(("live",), applications=["live"])]).candidates(CALLER)
    assert [select(candidates, each) for each in ("vod", "", None)] == [None] * 3


STREAMS = [
    Route(("cameras",), applications=["live"], streams=["cam*", "door"]),
    Route(("films",), streams=["*"]),
    Route(("all",)),
    Route(("never",)),
]


def test_the_candidates_end_with_the_first_route_that_depends_on_nothing_read() -> None:
    candidates = Routes(STREAMS).candidates(CALLER)
    assert names(*candidates) == ["cameras", "films", "all"]
    assert [route.reads_connect for route in candidates] == [True, True, False]


@pytest.mark.parametrize(
    ("application", "stream", "upstream"),
    [
        ("live", "cam1", "cameras"),
        ("live", "door", "cameras"),
        ("live", "film", "films"),
        ("vod", "cam1", "films"),
        ("vod", "", "films"),
        ("live", None, "all"),
        (None, None, "all"),
    ],
)
def test_a_route_by_stream_needs_one_that_matches(
    application: str | None, stream: str | None, upstream: str
) -> None:
    candidates = Routes(STREAMS).candidates(CALLER)
    assert names(*filter(None, [select(candidates, application, stream)])) == [upstream]


@pytest.mark.parametrize(
    ("routes", "needed"),
    [
        (STREAMS, True),
        ([Route(("a",), applications=["live"]), *STREAMS], False),
        ([Route(("a",), applications=["vod"]), *STREAMS], True),
        ([Route(("a",), applications=["live"], hashes_stream=True)], True),
        ([Route(("a",), applications=["vod"], hashes_stream=True)], False),
        ([], False),
    ],
)
def test_the_stream_is_needed_if_the_first_route_of_the_application_depends_on_it(
    routes: list[Route], needed: bool
) -> None:
    assert needs_stream(routes, "live") is needed


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("live", ["live"], ["Live", "live2", "x/live", "live/x", ""]),
        ("event-*", ["event-", "event-1/x"], ["event", "an-event-1"]),
        ("live?", ["live1"], ["live", "live12"]),
        ("live[0-9]", ["live1"], ["livex"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*", ["", "any"], []),
    ],
)
def test_an_application_matches_a_pattern_as_a_whole(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    route = Route(("a",), applications=[pattern])
    assert [each for each in (*matching, *others) if route.serves(each)] == matching
    assert not route.serves(None)


@pytest.mark.parametrize("app", ["live", "/live/", "live?token=a/b", "/live/?x"])
def test_the_application_has_no_query_and_no_outer_slashes(app: str) -> None:
    assert application_of(app) == "live"
