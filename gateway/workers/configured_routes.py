"""The routes of ``[[route]]``, as sessions use them."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from gateway.configuration import upstream_sections
from gateway.configuration.sections import Config
from gateway.protocols.networks import Networks
from gateway.protocols.routes import Route, Routes

# The properties of a connect by their keys.
_PROPERTIES: Final = {
    "tc_url": "tcUrl",
    "app": "app",
    "swf_url": "swfUrl",
    "page_url": "pageUrl",
}


def routes_of(configuration: Config) -> Routes:
    """The routes of the configuration, in their order."""
    mirrors = {mirror.upstream for mirror in configuration.mirrors}
    hashing = {
        upstream.name or str(number)
        for number, upstream in enumerate(configuration.upstreams, 1)
        if upstream.hashes_stream
    }
    routes = [_route(route, hashing) for route in configuration.routes]
    if hashing - mirrors:
        # Clients without a route get all upstreams, as before, but their stream must be known.
        routes.append(Route(upstreams=(), hashes_stream=True))
    return Routes(routes)


def _route(route: upstream_sections.Route, hashing: Set[str]) -> Route:
    """``hashing``: the names of the upstreams whose servers are chosen by the stream."""
    return Route(
        upstreams=route.upstreams,
        listeners=tuple(map(str, route.listeners)),
        hosts=route.hosts,
        server_names=route.server_names,
        clients=Networks.of(route.clients),
        applications=route.applications,
        streams=route.streams,
        hashes_stream=not hashing.isdisjoint(route.upstreams),
        rewriting={
            name: template
            for key, name in _PROPERTIES.items()
            if (template := getattr(route.rewriting, key)) is not None
        },
    )
