"""The upstream connection of a session: Twisted's protocol, and the ``Upstream`` that the session writes
to.

Passes bytes and events between both, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError
from gateway.logs import debugging
from gateway.protocols.ingress import RTMPT, Ingress
from gateway.protocols.limits import is_slow
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.termination import RTMPETermination
from gateway.protocols.session import Session
from gateway.tunnels.losses import OF_UPSTREAM

if TYPE_CHECKING:
    from gateway.protocols.http import Fields
    from gateway.protocols.rtmp.mirroring import MirrorReader
    from gateway.tunnels.access_control import AccessControl

_log = Logger()

# Reasons caused by the client: data that it sent before is still delivered to the upstream.
_OF_CLIENT = frozenset((EndReason.CLIENT_SILENT, EndReason.SEQUENCE_GAP, EndReason.WINDOW_FULL))


@final
@implementer(IProtocol, IPushProducer)
class Tunnel:
    """One tunnel. ``session_id`` is a credential; ``alias`` is its name in logs and on the status page.

    ``ended(tunnel, reason)`` is called once, when the session has ended. ``figures`` are its measurements.
    ``reading`` is the passive RTMP reader, None once it has finished. ``termination`` is that of RTMPE, or
    None if the client's bytes are passed on unchanged. ``access`` checks the client's bytes; it is None
    without access control. ``mirroring`` reads publishes that may be mirrored, None otherwise.
    """

    __slots__ = (
        "_bad_handshake",
        "_clock",
        "_ended",
        "_is_denied",
        "_is_full",
        "_owed",
        "_transport",
        "access",
        "address",
        "alias",
        "client",
        "figures",
        "ingress",
        "mirroring",
        "opened_at",
        "reading",
        "server",
        "session",
        "session_id",
        "termination",
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
        self.access: AccessControl | None = None
        self.mirroring: MirrorReader | None = None
        self.termination: RTMPETermination | None = None
        self._clock = clock
        self._ended = ended
        self._transport: Any = None
        self._bad_handshake = self._is_denied = False
        # Whether the transport's write buffer is full.
        self._is_full = False
        # Unacknowledged bytes at the last check after the end of the session.
        self._owed = 0

    # The upstream's transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        now = self._clock()
        if self.reading is not None:
            self.reading = self.reading.down(data, now)
        if self.access is not None:
            self.access.down(data)
        if self.mirroring is not None:
            self.mirroring = self.mirroring.down(data, now)
        if self.termination is not None:
            data = self._encrypt(self.termination, data)
            if not data:
                return
        self.session.upstream_data(data, now)

    def connectionLost(self, reason: Failure) -> None:
        if self._is_denied:
            return
        ended = OF_UPSTREAM.of_loss(reason)
        if self._bad_handshake:
            ended = EndReason.BAD_HANDSHAKE
        self._transport = None
        self.session.upstream_ended(ended, self._clock())

    def pauseProducing(self) -> None:
        self._is_full = True
        self.session.upstream_full()

    def resumeProducing(self) -> None:
        self._is_full = False
        if self.access is None or not self.access.is_waiting:
            self.session.upstream_drained(self._clock())

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does the work."""

    # The session calls

    @property
    def unsent(self) -> int:
        return self._transport.unsent if self._transport is not None else 0

    def write(self, data: bytes) -> None:
        if self.termination is not None:
            data = self._decrypt(self.termination, data)
            if not data:
                return
        self._send_up(data)

    def pass_up(self, data: bytes) -> None:
        """Send bytes that need no check, or have passed it."""
        if self.reading is not None:
            self.reading = self.reading.up(data, self._clock())
        if self._transport is not None:
            self._transport.write(data)
        if self.mirroring is not None:
            self.mirroring = self.mirroring.up(data, self._clock())

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
        if self.access is not None:
            self.access.end()
        if self.mirroring is not None:
            self.mirroring.end()
            self.mirroring = None
        self._ended(self, reason)

    def _send_up(self, data: bytes) -> None:
        """Check bytes of the client, and send those that pass."""
        if self.access is not None:
            data = self.access.up(data, self._clock())
        if data:
            self.pass_up(data)

    def _decrypt(self, termination: RTMPETermination, data: bytes) -> bytes:
        """The bytes for the server of those from the client."""
        try:
            data = termination.up(data)
        except RTMPError as error:
            self.refuse_handshake(str(error))
            return b""
        if termination.is_plain:
            self.termination = None
        return data

    def _encrypt(self, termination: RTMPETermination, data: bytes) -> bytes:
        """The bytes for the client of those from the server."""
        try:
            data, reply = termination.down(data)
        except RTMPError as error:
            self.refuse_handshake(str(error))
            return b""
        if reply:
            self._send_up(reply)
        return data

    # Access control calls

    def hold_client(self, on: bool) -> None:
        """Withhold the answers to sends, or continue."""
        if on:
            self.session.upstream_full()
        elif not self._is_full:
            self.session.upstream_drained(self._clock())

    def deny(self, answer: bytes) -> None:
        """End the session once the client has got ``answer`` and what the upstream has sent."""
        self._is_denied = True
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.unregisterProducer()
            transport.abort_now()
        now = self._clock()
        if answer and self.termination is not None:
            answer = self._encrypt(self.termination, answer)
        if answer:
            self.session.upstream_data(answer, now)
        self.session.upstream_ended(EndReason.DENIED, now)

    # The table calls

    def refuse_handshake(self, cause: str) -> None:
        """End the session for a bad handshake, after the present call.

        The session must not end while it passes its client's bytes on, so its upstream connection is lost.
        """
        if debugging.enabled:
            _log.debug("session {alias}: {cause}", alias=self.alias, cause=cause)
        self._bad_handshake = True
        self.reading = self.termination = None
        # Nothing more is sent to the upstream.
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abortConnection()

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
