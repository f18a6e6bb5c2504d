"""The routes of a configuration, as sessions use them."""

from __future__ import annotations

from gateway.configuration import loading
from gateway.protocols.routes import Caller, Routes
from gateway.workers.configured_routes import routes_of

_CONFIGURATION = """
[[listener]]
address = "0.0.0.0:80"
[[upstream]]
servers = ["a"]
[[upstream]]
servers = ["b"]
name = "events"
[[route]]
upstream = ["events", "1"]
listener = "0.0.0.0:80"
host = "*.example.org"
client = "10.0.0.0/8"
application = "event-*"
[route.rewrite]
tc_url = "rtmp://{server}/{app}"
page_url = ""
"""


def test_a_route_has_the_conditions_upstreams_and_templates_of_its_table() -> None:
    routes = routes_of(loading.from_text("gateway.toml", _CONFIGURATION))
    caller = Caller("0.0.0.0:80", "a.example.org", "", "10.0.0.1")
    (route,) = routes.candidates(caller)
    assert route.upstreams == ("events", "1")
    assert route.serves("event-1")
    assert not route.serves("live")
    assert route.rewriting == {"tcUrl": "rtmp://{server}/{app}", "pageUrl": ""}
    others = [
        Caller("[::]:80", caller.host, "", caller.address),
        Caller(caller.listener, "b.example.net", "", caller.address),
        Caller(caller.listener, caller.host, "", "192.0.2.1"),
    ]
    assert [routes.candidates(other) for other in others] == [()] * 3


_HASHING = """
[[listener]]
address = "0.0.0.0:80"
[[upstream]]
servers = ["a"]
[[upstream]]
name = "hashing"
servers = ["b", "c"]
choose = "hash"
hash_by = "stream"
[[route]]
upstream = "1"
host = "a.example.org"
[[route]]
upstream = "hashing"
host = "b.example.org"
[[route]]
upstream = "1"
stream = "film*"
"""


def reads_stream(routes: Routes, host: str) -> list[bool]:
    return [route.reads_stream for route in routes.candidates(Caller(host=host))]


def test_the_stream_is_read_for_routes_and_upstreams_that_depend_on_it() -> None:
    routes = routes_of(loading.from_text("gateway.toml", _HASHING))
    assert reads_stream(routes, "a.example.org") == [False]
    assert reads_stream(routes, "b.example.org") == [True]
    assert reads_stream(routes, "c.example.org") == [True, True]
    assert [route.upstreams for route in routes.candidates(Caller(host="c"))] == [("1",), ()]


def test_the_stream_is_not_read_for_the_upstream_of_a_mirror() -> None:
    mirror = '[[mirror]]\nupstream = "hashing"\n'
    routes = routes_of(loading.from_text("gateway.toml", _HASHING + mirror))
    assert reads_stream(routes, "c.example.org") == [True]


def test_without_a_route_the_stream_is_read_if_a_server_is_chosen_by_it() -> None:
    text = _HASHING.partition("[[route]]")[0]
    (route,) = routes_of(loading.from_text("gateway.toml", text)).candidates(Caller())
    assert (route.upstreams, route.reads_stream) == ((), True)
    by_application = text.replace('hash_by = "stream"', "")
    assert routes_of(loading.from_text("gateway.toml", by_application)).candidates(Caller()) == ()
