"""The phases of a forwarded request, and their deadlines.

    phase        activity                                         deadline, and the consequence
    gathering    waiting for the first bytes of the body          body_s: close
    connecting   connecting to the server                         website_answer_s: 504
    sending      sending the body to the server                   body_s with too little received: close, or
                                                                  504 if the server does not accept data
    awaiting     waiting for the head of the response             website_answer_s: 504
    answering    the head has been written                        website_quiet_s without data: close;
                                                                  stalled_write_s with a slow client: close
    lingering    all is written, and the connection will close    while the client still reads
    done         the request has finished

A slow peer is distinguished from a dead one by its rate (``limits.is_slow``), so no deadline limits the
size of a body.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from gateway.errors import RequestRefused, WebsiteTimedOut
from gateway.listeners.upgraded import Upgraded
from gateway.protocols.forwarding import Request
from gateway.protocols.limits import Limits, is_slow
from gateway.upstreams.website_connections import WebsiteConnections

# Closing would discard what the client has not read yet; after that, the same as in ordered_responses.py.
LINGER_S = 2.0


class Client(Protocol):
    """The connection of the request."""

    deadline: float

    def forwarded(self, error: RequestRefused | None, closes: bool) -> None:
        """The forwarding has finished: the response was written, or ``error`` is the response."""

    def upgraded(self, relay: Upgraded) -> None:
        """The connection was upgraded: ``relay`` handles the transport until it is lost."""


class Phase(Enum):
    """The phases, as described at the head of this module."""

    GATHERING = "gathering"
    CONNECTING = "connecting"
    SENDING = "sending"
    AWAITING = "awaiting"
    ANSWERING = "answering"
    LINGERING = "lingering"
    DONE = "done"


class ForwardingDeadlines:
    """The base of ``Forwarding`` that sets and handles deadlines."""

    __slots__ = (
        "_client",
        "_client_full",
        "_clock",
        "_left",
        "_limits",
        "_moved",
        "_phase",
        "_request",
        "_server_full",
        "_transport",
        "_web",
    )

    def __init__(
        self,
        connections: WebsiteConnections,
        limits: Limits,
        clock: Callable[[], float],
        client: Client,
        transport: Any,
        request: Request,
    ) -> None:
        self._web = connections
        self._limits = limits
        self._clock = clock
        self._client = client
        self._transport = transport
        self._request = request
        # Whether the write buffers to the client and to the server are full.
        self._client_full = self._server_full = False
        # Bytes received from either side since the deadline was set.
        self._moved = 0
        # Bytes that the client had not acknowledged at the last check.
        self._left = 0
        self._phase = Phase.GATHERING

    def client_lost(self) -> None:
        raise NotImplementedError

    def _refuse(self, error: RequestRefused) -> None:
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """The client's deadline has passed."""
        _EXPIRE[self._phase](self)

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self._set_deadline(seconds)

    def _set_deadline(self, seconds: float) -> None:
        self._moved = 0
        self._client.deadline = self._clock() + seconds

    def _abort(self) -> None:
        self.client_lost()
        self._transport.abortConnection()

    def _give_up(self) -> None:
        error = WebsiteTimedOut("no answer in time")
        self._web.log_failure(error)
        self._refuse(error)

    def _expire_sending(self) -> None:
        if not is_slow(self._moved, self._limits.body_s):
            self._set_deadline(self._limits.body_s)
        elif self._server_full or (self._request.waits_for_continue and not self._moved):
            self._give_up()
        else:
            self._abort()

    def _expire_answering(self) -> None:
        if self._client_full:
            self._expire_while_client_reads(self._limits.stalled_write_s)
        elif self._moved:
            self._set_deadline(self._limits.website_quiet_s)
        else:
            self._abort()

    def _expire_while_client_reads(self, after_s: float) -> None:
        """Continue to wait for a client that is reading."""
        left = self._transport.unacknowledged
        taken = self._left - left
        self._left = left
        if left and not is_slow(taken, self._limits.stalled_write_s):
            self._set_deadline(self._limits.stalled_write_s)
        elif taken and not left:
            self._set_deadline(after_s)
        else:
            self._abort()

    def _expire_lingering(self) -> None:
        self._expire_while_client_reads(LINGER_S)


_EXPIRE: dict[Phase, Callable[[ForwardingDeadlines], None]] = {
    Phase.GATHERING: ForwardingDeadlines._abort,
    Phase.CONNECTING: ForwardingDeadlines._give_up,
    Phase.SENDING: ForwardingDeadlines._expire_sending,
    Phase.AWAITING: ForwardingDeadlines._give_up,
    Phase.ANSWERING: ForwardingDeadlines._expire_answering,
    Phase.LINGERING: ForwardingDeadlines._expire_lingering,
    Phase.DONE: ForwardingDeadlines._abort,
}
