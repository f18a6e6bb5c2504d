"""Connects sessions to the upstreams of their routes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, final

from gateway.protocols.http import Fields
from gateway.protocols.ingress import Ingress
from gateway.protocols.routes import Caller, Routes


class Session(Protocol):
    """A tunnel or relay that is being opened. ``address``: the IP address of its client, or empty."""

    address: str
    ingress: Ingress

    @property
    def opening_fields(self) -> Fields | None: ...


class Connect(Protocol):
    """Connects a protocol, of the client at an address, to a server of the named upstreams, or of all if
    none is named. Returns the server's name. Raises ServiceUnavailable.
    """

    def __call__(
        self, protocol: Any, client: str, upstreams: tuple[str, ...] = (), /
    ) -> Awaitable[str]: ...


@final
class Router:
    """Selects the route of each session."""

    def __init__(self, routes: Routes, connect: Connect) -> None:
        self._routes = routes
        self._connect = connect

    async def connect(self, protocol: Any, session: Session) -> str:
        """Connect ``protocol`` to a server for ``session``. Returns the server's name.

        Raises ServiceUnavailable.
        """
        route = self._routes.first(caller_of(session))
        return await self._connect(protocol, session.address, route.upstreams if route else ())


def caller_of(session: Session) -> Caller:
    """What is known of the client of a session that is being opened."""
    fields = session.opening_fields
    host = (fields.value(b"host") or b"") if fields is not None else b""
    ingress = session.ingress
    return Caller(ingress.listener, host.decode("latin-1"), ingress.server_name, session.address)
