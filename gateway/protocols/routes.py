"""Routes: the upstreams that a client's session is given, by what is known of the client.

The first route whose conditions all match is used. A condition without values matches every client. Without
a matching route, all upstreams are used, in their order.

- Host and server names are compared without case. ``*.example.org`` matches all names that end with
  ``.example.org``. A client that has sent no name matches no condition on names.
- A client without an IP address, on a UNIX socket, is in no network.
- Applications match a pattern with ``*``, ``?`` and ``[...]``, as a whole and with case. ``*`` matches
  slashes too. The application is that of the connect command, without its query and outer slashes.
- A client whose connect cannot be read (RTMPE) matches no condition on applications.
- Streams match a pattern in the same way. The stream is that of the client's first publish or play, without
  its query and outer slashes. A client that asks for something else first matches no condition on streams.

Nothing is read from the client's stream here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from typing import final

from attrs import field, frozen

from gateway.protocols import templates
from gateway.protocols.networks import NO_NETWORKS, Networks


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


def _patterns(written: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(translate(each)) for each in written)


@frozen
class Route:
    """A route: its conditions, and the names of its ``upstreams`` in the order of preference.

    ``rewriting``: templates for properties of the connect command, by the property's name.
    ``hashes_stream``: whether a server is chosen by the stream.
    """

    upstreams: tuple[str, ...]
    listeners: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    clients: Networks = NO_NETWORKS
    applications: tuple[re.Pattern[str], ...] = field(default=(), converter=_patterns)
    rewriting: Mapping[str, str] = field(factory=dict)
    streams: tuple[re.Pattern[str], ...] = field(default=(), converter=_patterns)
    hashes_stream: bool = False

    @property
    def reads_connect(self) -> bool:
        """Whether the connect command is required: for a condition, to rewrite it, or for the stream."""
        return bool(self.applications or self.rewriting) or self.reads_stream

    @property
    def reads_stream(self) -> bool:
        """Whether the stream is required: for a condition, or to choose a server."""
        return bool(self.streams) or self.hashes_stream

    def admits(self, caller: Caller) -> bool:
        """Whether the client matches the conditions that can be checked when its session is opened."""
        return (
            (not self.listeners or caller.listener in self.listeners)
            and _matches(_name_of(caller.host), self.hosts)
            and _matches(caller.server_name.lower(), self.server_names)
            and (not self.clients or self.clients.holds(caller.address))
        )

    def serves(self, application: str | None) -> bool:
        """Whether the application matches. None: it cannot be read."""
        return _is_one_of(application, self.applications)

    def serves_stream(self, stream: str | None) -> bool:
        """Whether the stream matches. None: it cannot be read."""
        return _is_one_of(stream, self.streams)

    def rewritten(self, values: Mapping[str, str]) -> dict[str, str]:
        """The new values of the properties, with ``values`` for the templates' names."""
        return {name: templates.expand(each, values) for name, each in self.rewriting.items()}


@final
class Routes:
    """All routes, in their order."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes = tuple(routes)

    def candidates(self, caller: Caller) -> tuple[Route, ...]:
        """The routes that can be the client's. If the first one does not read the connect, it is that."""
        found: list[Route] = []
        for route in self._routes:
            if route.admits(caller):
                found.append(route)
                if not (route.applications or route.streams):
                    break
        return tuple(found)


def needs_stream(candidates: Sequence[Route], application: str) -> bool:
    """Whether the route of a client with this application depends on its stream, or its server does."""
    first = next((route for route in candidates if route.serves(application)), None)
    return first is not None and first.reads_stream


def select(
    candidates: Sequence[Route], application: str | None, stream: str | None = None
) -> Route | None:
    """The route of a client with this application and stream, each None if it cannot be read; None if there
    is none.
    """
    return next(
        (
            route
            for route in candidates
            if route.serves(application) and route.serves_stream(stream)
        ),
        None,
    )


def _is_one_of(name: str | None, patterns: tuple[re.Pattern[str], ...]) -> bool:
    """Whether the name matches one of the patterns. Without patterns, every name does, and none too."""
    if not patterns:
        return True
    return name is not None and any(pattern.fullmatch(name) for pattern in patterns)


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
