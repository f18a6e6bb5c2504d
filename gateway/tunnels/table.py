"""The table of a worker's sessions: opens, finds and sweeps them, and handles their end.

A session is in the table from the moment its upstream connection is established. It stays there after its
end, until its last deadline, to repeat its last answers to a client whose connection was lost. Only active
sessions count toward the limits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.errors import (
    Draining,
    OpeningFailed,
    RequestRefused,
    UnknownSession,
    UpstreamUnavailable,
)
from gateway.protocols.access import Visitor
from gateway.protocols.clients import recognise
from gateway.protocols.http import Fields
from gateway.protocols.ingress import RTMPT, Ingress
from gateway.protocols.interfaces import Reply
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.protocols.session import Session
from gateway.protocols.stream_policy import policy_for
from gateway.tunnels.access_control import Control, uncontrolled
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.terminations import Terminate, unterminated
from gateway.tunnels.tunnel import Tunnel

_log = Logger()

# A buffer limit that has changed by less than this part of it is left as it is. With thousands of sessions,
# it changes with each one that opens or ends.
_LEAST_CHANGE = 32


class Telemetry(Protocol):
    """Observer of session lifecycle events."""

    def session_opened(self, tunnel: Tunnel) -> None: ...

    def session_ended(self, tunnel: Tunnel, reason: EndReason) -> None: ...

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None: ...


@final
class Opening:
    """A session that is being opened, until its upstream connection is established."""

    __slots__ = ("_abandoned", "_clock", "_reply", "tunnel")

    def __init__(self, tunnel: Tunnel, reply: Reply, clock: Callable[[], float]) -> None:
        self.tunnel = tunnel
        self._reply = reply
        self._clock = clock
        self._abandoned = False

    def abandon(self) -> None:
        """The client's connection was lost: end the session once its upstream connection is established."""
        self._abandoned = True

    def succeed(self) -> None:
        """The upstream connection is established."""
        if self._abandoned:
            self.tunnel.session.end(EndReason.ABANDONED, self._clock())
        else:
            self._reply.answer(self.tunnel.session_id + b"\n")

    def refuse(self, error: RequestRefused) -> None:
        """The upstream connection could not be established."""
        if not self._abandoned:
            self._reply.refuse(error)


@final
class SessionTable:
    """``connect(protocol, session)`` connects ``protocol``, of the session, to an upstream server
    and returns the server's name, or raises UpstreamUnavailable. ``measure`` creates the figures of a
    session, or returns None. ``streamed_answers`` and ``answer_s`` configure streamed answers
    (``streaming``). ``find_elsewhere`` finds sessions of other workers. ``control`` and ``mirror`` create a
    session's access control, and the reader of what is mirrored; ``terminate`` the termination of RTMPE, by
    the name of its server, or None.
    """

    def __init__(
        self,
        limits: Limits,
        hold_s: float,
        admission: Admission,
        ids: SessionIds,
        connect: Callable[[Tunnel, Tunnel], Awaitable[str]],
        clock: Callable[[], float],
        telemetry: Telemetry,
        measure: Callable[[Ingress], Any] = lambda ingress: None,
        streamed_answers: StreamedAnswers = StreamedAnswers.DIRECT,
        answer_s: float = 1.0,
        find_elsewhere: Callable[[bytes], Any] | None = None,
        control: Control = uncontrolled,
        mirror: Callable[[], MirrorReader | None] = lambda: None,
        terminate: Terminate = unterminated,
    ) -> None:
        self._limits = limits
        self.hold_s = hold_s
        self._streamed_answers = streamed_answers
        self._answer_s = answer_s
        self._admission = admission
        self._ids = ids
        self._connect = connect
        self._clock = clock
        self._telemetry = telemetry
        self._measure = measure
        self._control = control
        self._mirror = mirror
        self._find_elsewhere = find_elsewhere or self.find_own
        self._terminate = terminate
        # Tunnels whose RTMPE handshake the gateway terminates, until it is complete.
        self._shaking_hands: set[Tunnel] = set()
        self._tunnels: dict[bytes, Tunnel] = {}
        # Ended sessions, oldest first, with the most bytes that each keeps.
        self._ended: dict[bytes, int] = {}
        self._ended_bytes = 0
        # The buffer limit that all sessions had last.
        self._shared_bytes = 0

    def open(self, address: str, fields: Fields, reply: Reply, ingress: Ingress = RTMPT) -> Opening:
        """Open a session for the client at ``address``; ``reply`` receives its id and a newline, or 503.

        Raises CapacityReached, Draining.
        """
        try:
            self._admission.enter(address)
        except RequestRefused as error:
            self._telemetry.open_refused(error, address, ingress)
            raise
        session_id, alias = self._ids.next()
        figures = self._measure(ingress)
        tunnel = Tunnel(
            session_id, alias, address, fields, self._clock, self._end, ingress, figures
        )
        tunnel.access = self._control(tunnel, Visitor(alias, address, fields))
        tunnel.mirroring = self._mirror()
        client = recognise(fields)
        policy = policy_for(client, fields, self._streamed_answers, self._answer_s, self._limits)
        now = self._clock()
        tunnel.session = Session(
            self._limits, tunnel, self.hold_s, now, client.tries_again, figures, policy
        )
        opening = Opening(tunnel, reply, self._clock)
        Deferred.fromCoroutine(self._open(opening)).addErrback(
            lambda failure: _log.failure("An open failed", failure)
        )
        return opening

    def find(self, session_id: bytes) -> Session | Any:
        """The session with that id, active or recently ended, or what ``find_elsewhere`` returns for one of
        another worker. Raises UnknownSession.
        """
        tunnel = self._tunnels.get(session_id)
        return self._find_elsewhere(session_id) if tunnel is None else tunnel.session

    def find_own(self, session_id: bytes) -> Session:
        """As ``find``, for sessions of this worker only."""
        tunnel = self._tunnels.get(session_id)
        if tunnel is None:
            raise UnknownSession("no such session")
        return tunnel.session

    @property
    def owes(self) -> bool:
        """Whether the upstream connection of an ended session still has unsent data."""
        return any(
            tunnel.session.ended is not None and tunnel.is_owed for tunnel in self._tunnels.values()
        )

    def sweep(self, now: float) -> None:
        """Run the expired deadlines of all sessions, and remove expired ended sessions."""
        for _ in self.sweep_in_steps(now):
            pass

    def sweep_in_steps(self, now: float) -> Iterator[None]:
        """The same, with a step for each session whose deadline has expired."""
        self._sweep_handshakes(now)
        due = [tunnel for tunnel in self._tunnels.values() if tunnel.session.deadline <= now]
        for tunnel in due:
            # Not if something has happened since the step before.
            if tunnel.session.deadline <= now and tunnel.session_id in self._tunnels:
                self._sweep_one(tunnel, now)
            yield

    def _sweep_one(self, tunnel: Tunnel, now: float) -> None:
        if not tunnel.session.ended:
            self._expire(tunnel, now)
        elif tunnel.still_takes(self._limits.silent_session_s):
            tunnel.session.deadline = now + self._limits.silent_session_s
        else:
            self._forget(tunnel)

    def _sweep_handshakes(self, now: float) -> None:
        for tunnel in tuple(self._shaking_hands):
            if tunnel.termination is None or tunnel.termination.is_complete or tunnel.session.ended:
                self._shaking_hands.discard(tunnel)
            elif now - tunnel.opened_at >= self._limits.unused_session_s:
                tunnel.refuse_handshake("RTMPE handshake not completed in time")

    def share_buffers(self) -> None:
        """Update the buffer limit of each session, unless it has hardly changed."""
        share_bytes = self._admission.share_bytes()
        if abs(share_bytes - self._shared_bytes) * _LEAST_CHANGE <= self._shared_bytes:
            return
        self._shared_bytes = share_bytes
        for tunnel in self._tunnels.values():
            tunnel.session.share(share_bytes)

    def end_all(self, reason: EndReason) -> None:
        """End every session."""
        now = self._clock()
        for tunnel in tuple(self._tunnels.values()):
            tunnel.session.end(reason, now)

    def _expire(self, tunnel: Tunnel, now: float) -> None:
        try:
            tunnel.session.expire(now)
        except Exception:
            _log.failure("Session {alias} failed and ends", alias=tunnel.alias)
            tunnel.session.end(EndReason.FAULT, now)

    async def _open(self, opening: Opening) -> None:
        tunnel = opening.tunnel
        try:
            tunnel.server = await self._connect(tunnel, tunnel)
        except RequestRefused as error:
            self._admission.leave(tunnel.address)
            self._refuse(opening, error)
            return
        except BaseException:
            self._admission.leave(tunnel.address)
            self._refuse(opening, OpeningFailed("a fault of the gateway"))
            raise
        self._stand(opening)

    def _stand(self, opening: Opening) -> None:
        """The upstream connection has been established, and may have been lost since."""
        tunnel, session, now = opening.tunnel, opening.tunnel.session, self._clock()
        if self._admission.closed:
            session.end(EndReason.DRAINED, now)
            self._refuse(opening, Draining("the gateway is ending"))
            return
        if session.ended:
            self._refuse(opening, UpstreamUnavailable(session.ended.value))
            return
        tunnel.termination = self._terminate(tunnel.server)
        if tunnel.termination is not None:
            self._shaking_hands.add(tunnel)
        self._telemetry.session_opened(tunnel)
        self._tunnels[tunnel.session_id] = tunnel
        session.deadline = now + self._limits.unused_session_s
        session.share(self._admission.share_bytes())
        opening.succeed()

    def _refuse(self, opening: Opening, error: RequestRefused) -> None:
        self._telemetry.open_refused(error, opening.tunnel.address, opening.tunnel.ingress)
        opening.refuse(error)

    def _end(self, tunnel: Tunnel, reason: EndReason) -> None:
        self._admission.leave(tunnel.address)
        if tunnel.session_id in self._tunnels:
            self._telemetry.session_ended(tunnel, reason)
            self._keep_ended(tunnel)

    def _keep_ended(self, tunnel: Tunnel) -> None:
        """Keep an ended session for repeated commands; removes the oldest ones above the limits."""
        # It is called while the session ends, and so before its last answer is in its place.
        kept_bytes = max(tunnel.session.buffered_bytes, self._limits.answer_bytes)
        self._ended[tunnel.session_id] = kept_bytes
        self._ended_bytes += kept_bytes
        while (
            len(self._ended) > self._limits.sessions
            or self._ended_bytes > self._admission.ended_bytes
        ):
            self._forget(self._tunnels[next(iter(self._ended))])

    def _forget(self, tunnel: Tunnel) -> None:
        del self._tunnels[tunnel.session_id]
        self._ended_bytes -= self._ended.pop(tunnel.session_id)
        tunnel.drop()
