"""Routes: the upstreams that a client's session is given, by what is known of the client.

The first route whose conditions all match is used. A condition without values matches every client. Without
a matching route, all upstreams are used, in their order.

- Host and server names are compared without case. ``*.example.org`` matches all names that end with
  ``.example.org``. A client that has sent no name matches no condition on names.
- A client without an IP address, on a UNIX socket, is in no network.

Nothing is read from the client's stream here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from attrs import frozen

from gateway.protocols.networks import Networks


@frozen
class Caller:
    """What is known of a client when its session is opened.

    ``listener``: its address as configured. ``host``: the ``Host`` field of the request, or empty.
    ``server_name``: of TLS (SNI), or empty. ``address``: the client's IP address, or empty.
    """

    listener: str = ""
    host: str = ""
    server_name: str = ""
    address: str = ""


_ALL: Final = Networks.of(())


@frozen
class Route:
    """A route: its conditions, and the names of its ``upstreams`` in the order of preference."""

    upstreams: tuple[str, ...]
    listeners: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    clients: Networks = _ALL

    def admits(self, caller: Caller) -> bool:
        """Whether the client matches the conditions."""
        return (
            (not self.listeners or caller.listener in self.listeners)
            and _matches(_name_of(caller.host), self.hosts)
            and _matches(caller.server_name.lower(), self.server_names)
            and (not self.clients or self.clients.holds(caller.address))
        )


@final
class Routes:
    """All routes, in their order."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes = tuple(routes)

    def first(self, caller: Caller) -> Route | None:
        """The first route that matches the client; None if there is none."""
        return next((route for route in self._routes if route.admits(caller)), None)


def _name_of(host: str) -> str:
    """The name in a ``Host`` field, without its port."""
    name, colon, port = host.rpartition(":")
    is_port = colon and (port.isdigit() or not port)
    return (name if is_port else host).lower()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(_matches_one(name, pattern) for pattern in patterns)


def _matches_one(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) >= len(pattern)
    return bool(name) and name == pattern
