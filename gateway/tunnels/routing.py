"""Connects sessions to the upstreams of their routes."""

from __future__ import annotations

from typing import Any, Protocol, final

from twisted.logger import Logger

from gateway.protocols.http import Fields
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Caller, Routes
from gateway.tunnels.introducing import Means, Session
from gateway.tunnels.introduction import Introduction

_log = Logger()


class OpeningSession(Session, Protocol):
    """A tunnel or relay that is being opened."""

    @property
    def opening_fields(self) -> Fields | None: ...


@final
class Router:
    """Selects the route of each session, at its open or by its connect command."""

    def __init__(self, routes: Routes, means: Means) -> None:
        self._routes = routes
        self._means = means
        # Introductions that have a deadline.
        self._introductions: set[Introduction] = set()

    async def connect(self, protocol: Any, session: OpeningSession) -> str:
        """Connect ``protocol``, the upstream side of ``session``, to a server. Returns the server's name.

        It is empty if the server depends on the session's connect command; then ``protocol`` is connected
        to an introduction. Raises ServiceUnavailable.
        """
        candidates = self._routes.candidates(caller_of(session))
        if candidates and candidates[0].reads_connect:
            introduction = Introduction(
                *(self._means, protocol, session, candidates), self._introductions.discard
            )
            self._introductions.add(introduction)
            protocol.makeConnection(introduction)
            return ""
        upstreams = candidates[0].upstreams if candidates else ()
        return await self._means.connect(protocol, session.address, upstreams)

    def sweep(self, now: float) -> None:
        """Call ``expire`` of every introduction whose deadline has passed."""
        for introduction in [each for each in self._introductions if each.deadline <= now]:
            try:
                introduction.expire()
            except Exception:
                # Other introductions' deadlines must still be checked, now and at the next sweep.
                self._introductions.discard(introduction)
                _log.failure("A session without a server failed and ends")
                introduction.dismiss(EndReason.FAULT)


def caller_of(session: OpeningSession) -> Caller:
    """What is known of the client of a session that is being opened."""
    fields = session.opening_fields
    host = (fields.value(b"host") or b"") if fields is not None else b""
    ingress = session.ingress
    return Caller(ingress.listener, host.decode("latin-1"), ingress.server_name, session.address)
