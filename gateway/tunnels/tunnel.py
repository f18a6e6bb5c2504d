"""The upstream connection of a session: Twisted's protocol, and the ``Upstream`` that the session writes
to.

Passes bytes and events between both, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.protocols.ingress import RTMPT, Ingress
from gateway.protocols.limits import is_slow
from gateway.protocols.reasons import EndReason
from gateway.protocols.session import Session
from gateway.tunnels.losses import OF_UPSTREAM

if TYPE_CHECKING:
    from gateway.protocols.http import Fields

# Reasons caused by the client: data that it sent before is still delivered to the upstream.
_OF_CLIENT = frozenset((EndReason.CLIENT_SILENT, EndReason.SEQUENCE_GAP, EndReason.WINDOW_FULL))


@final
@implementer(IProtocol, IPushProducer)
class Tunnel:
    """One tunnel. ``session_id`` is a credential; ``alias`` is its name in logs and on the status page.

    ``ended(tunnel, reason)`` is called once, when the session has ended. ``figures`` are its measurements.
    ``reading`` is the passive RTMP reader, None once it has finished.
    """

    __slots__ = (
        "_clock",
        "_ended",
        "_owed",
        "_transport",
        "address",
        "alias",
        "client",
        "figures",
        "ingress",
        "opened_at",
        "reading",
        "server",
        "session",
        "session_id",
    )

    session: Session

    def __init__(
        self,
        session_id: bytes,
        alias: str,
        address: str,
        fields: Fields,
        clock: Callable[[], float],
        ended: Callable[[Tunnel, EndReason], None],
        ingress: Ingress = RTMPT,
        figures: Any = None,
    ) -> None:
        self.session_id = session_id
        self.alias = alias
        self.address = address
        self.client = fields
        self.server = ""
        self.opened_at = clock()
        self.ingress = ingress
        self.figures = figures
        self.reading: Any = figures.take_reading() if figures is not None else None
        self._clock = clock
        self._ended = ended
        self._transport: Any = None
        # Unacknowledged bytes at the last check after the end of the session.
        self._owed = 0

    # The upstream's transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        now = self._clock()
        if self.reading is not None:
            self.reading = self.reading.down(data, now)
        self.session.upstream_data(data, now)

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        self.session.upstream_ended(OF_UPSTREAM.of_loss(reason), self._clock())

    def pauseProducing(self) -> None:
        self.session.upstream_full()

    def resumeProducing(self) -> None:
        self.session.upstream_drained(self._clock())

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does what there is to do."""

    # The session calls

    @property
    def unsent(self) -> int:
        return self._transport.unsent if self._transport is not None else 0

    def write(self, data: bytes) -> None:
        if self.reading is not None:
            self.reading = self.reading.up(data, self._clock())
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pauseProducing()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resumeProducing()

    def end(self, reason: EndReason) -> None:
        transport = self._transport
        if transport is not None:
            transport.unregisterProducer()
            self._owed = transport.unacknowledged
            if reason is EndReason.CLIENT_CLOSED or (self._owed and reason in _OF_CLIENT):
                # Data whose send was answered must be delivered. Reading continues meanwhile: closing a
                # socket with unread data resets the connection, and data in flight would be lost.
                transport.resumeProducing()
                transport.loseWriteConnection()
            elif reason is EndReason.REPLACED:
                # The newer publish must not reach the media server first.
                transport.abort_now()
            else:
                transport.abortConnection()
        self.reading = None
        self._ended(self, reason)

    # The table calls

    @property
    def is_owed(self) -> bool:
        """Whether the upstream has unacknowledged data."""
        return self._transport is not None and self._transport.unacknowledged > 0

    def still_takes(self, seconds: float) -> bool:
        """Whether the upstream of an ended session has more to acknowledge, and has made progress since the
        last check, ``seconds`` ago.
        """
        if self._transport is None:
            return False
        owed, self._owed = self._owed, self._transport.unacknowledged
        return self._owed > 0 and not is_slow(owed - self._owed, seconds)

    def drop(self) -> None:
        """The session has expired. Abort the upstream connection if it still has unsent data."""
        if self._transport is not None:
            self._transport.abortConnection()

    # The operator and telemetry call

    @property
    def opening_fields(self) -> Fields:
        """The fields of the open request."""
        return self.client

    @property
    def counted(self) -> Session:
        """The object with the counters: the session."""
        return self.session

    def hold_upstream(self, on: bool) -> None:
        """Hold back data for the upstream, or send what was held back."""
        if self._transport is not None:
            self._transport.hold_writes(on)

    def dismiss(self, reason: EndReason) -> None:
        """End the session."""
        self.session.end(reason, self._clock())
