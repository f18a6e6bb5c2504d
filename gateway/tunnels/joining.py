"""Connects an introduced session to a server: selects its route, connects, makes the handshake, and repeats
the commands that the gateway has answered. If a server fails in any of these, the next one is tried.

A server must complete its handshake within ``upstream_connect_s``, and answer the repeated commands within
the same time again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import final

from gateway.errors import UpstreamUnavailable
from gateway.protocols.routes import Route, select
from gateway.protocols.rtmp.connect_rewriting import ConnectRewriting
from gateway.protocols.rtmp.digest import ANSWER_RANDOM_BYTES
from gateway.protocols.rtmp.digest_handshake import DigestClientHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake
from gateway.protocols.rtmp.opening import Opening, Passage
from gateway.protocols.rtmp.opening_replay import OpeningReplay
from gateway.tunnels.introducing import Means
from gateway.tunnels.server_connection import ServerAttempts, ServerConnection
from gateway.upstreams.pool import OpeningFailed
from gateway.upstreams.rtmpe_transport import HandshakeFailed


@final
class Joining:
    """``server``: the connection to the last server that has accepted. ``deadline``: when ``expire`` must
    be called.
    """

    __slots__ = (
        *("_attempts", "_candidates", "_is_cancelled", "_means", "_opening", "_replay"),
        *("_rewriting", "_route", "deadline"),
    )

    def __init__(self, means: Means, opening: Opening, candidates: Sequence[Route]) -> None:
        self._means = means
        self._opening = opening
        self._candidates = candidates
        self._attempts = ServerAttempts(self._handshake)
        self._route: Route | None = None
        # For the server that is being tried.
        self._rewriting: ConnectRewriting | None = None
        self._replay: OpeningReplay | None = None
        self._is_cancelled = False
        self.deadline = inf

    @property
    def server(self) -> ServerConnection | None:
        return self._attempts.current

    @property
    def refusal(self) -> str | None:
        """The server's description if it has refused the client; None otherwise."""
        return None if self._replay is None else self._replay.refusal

    async def connect(self, address: str) -> str:
        """Connect to a server for the client at ``address``, and wait until it is ready. Returns its name.
        Raises ServiceUnavailable. The opening must be complete.
        """
        application, stream = self._opening.application, self._opening.stream
        self._route = select(self._candidates, application, stream)
        return await self._means.connect(
            self._attempts,
            address,
            self._route.upstreams if self._route else (),
            application or "",
            self._await_ready,
            f"{application}/{stream}" if stream else "",
        )

    def passage(self) -> Passage:
        """How the session continues with the server. Raises RTMPError."""
        return self._opening.passage(self._replay, self._rewriting, self._means.clock())

    def expire(self) -> None:
        """``deadline`` has passed: the server has failed."""
        self.deadline = inf
        if self.server is not None:
            self.server.fail("the server has not answered in time")

    def cancel(self) -> None:
        """The session has ended."""
        self._is_cancelled = True
        if self.server is not None:
            self.server.abort()

    async def _await_ready(self, name: str) -> None:
        """Wait for the server of that name, which has accepted. Raises HandshakeFailed."""
        server = self.server
        if server is not None and self._is_cancelled:
            server.abort()
        if server is None or self._is_cancelled:
            raise UpstreamUnavailable("the session has ended")
        await self._await(server, HandshakeFailed)
        self._rewriting = self._rewriting_for(name)
        self._replay = self._opening.replay(self._rewriting)
        if self._replay is not None:
            server.replay(self._replay, self._means.clock)
            await self._await(server, OpeningFailed)

    async def _await(
        self, server: ServerConnection, failed: Callable[[str], HandshakeFailed]
    ) -> None:
        self.deadline = self._means.clock() + self._means.limits.upstream_connect_s
        cause = await server.ready
        self.deadline = inf
        if self._is_cancelled:
            raise UpstreamUnavailable("the session has ended")
        if cause:
            raise failed(cause)

    def _rewriting_for(self, server: str) -> ConnectRewriting | None:
        """The rewriting of the connect for the server with this name; None if it stays."""
        connect, route = self._opening.connect, self._route
        if connect is None or route is None or not route.rewriting:
            return None
        return self._opening.rewriting(route.rewritten(connect.template_values(server)))

    def _handshake(self) -> ClientHandshake | DigestClientHandshake | None:
        random_bytes, player = self._means.random_bytes, self._opening.player
        time_ms = int(self._means.clock() * 1000)
        if self._opening.is_opaque:
            return None
        if player is None:
            return ClientHandshake(time_ms, random_bytes(RANDOM_BYTES))
        return DigestClientHandshake(
            *(player, time_ms),
            *(random_bytes(RANDOM_BYTES), random_bytes(ANSWER_RANDOM_BYTES)),
        )
