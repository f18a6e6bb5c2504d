"""The routes of ``[[route]]``, as sessions use them."""

from __future__ import annotations

from typing import Final

from gateway.configuration import sections
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
    return Routes(map(_route, configuration.routes))


def _route(route: sections.Route) -> Route:
    return Route(
        upstreams=route.upstreams,
        listeners=tuple(map(str, route.listeners)),
        hosts=route.hosts,
        server_names=route.server_names,
        clients=Networks.of(route.clients),
        applications=route.applications,
        rewriting={
            name: template
            for key, name in _PROPERTIES.items()
            if (template := getattr(route.rewriting, key)) is not None
        },
    )
