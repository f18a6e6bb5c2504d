"""The routes of a configuration, as sessions use them."""

from __future__ import annotations

from gateway.configuration import loading
from gateway.protocols.routes import Caller
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
