"""The table of a worker's relays: opens, connects and sweeps them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import RequestRefused
from gateway.protocols.access import Visitor
from gateway.protocols.ingress import RTMP, Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.transport import LAST_BYTES_OF_STREAM
from gateway.tunnels.access_control import Control, uncontrolled
from gateway.tunnels.admission import Admission
from gateway.tunnels.losses import reason_of_refusal
from gateway.tunnels.relay import Relay, ignore
from gateway.tunnels.relay_connection import RelayConnection
from gateway.tunnels.terminated_relay import RelayTermination
from gateway.tunnels.terminations import Terminate, unterminated

_log = Logger()


class Telemetry(Protocol):
    """Observer of relay lifecycle events."""

    def session_opened(self, session: Relay) -> None: ...

    def session_ended(self, session: Relay, reason: EndReason) -> None: ...

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None: ...


@final
class RelayTable:
    """All relays of a worker. ``connect``, ``control`` and the like: as in the session table."""

    def __init__(
        self,
        limits: Limits,
        admission: Admission,
        next_alias: Callable[[], str],
        connect: Callable[[RelayConnection, Relay], Awaitable[str]],
        clock: Callable[[], float],
        telemetry: Telemetry,
        measure: Callable[[Ingress], Any] = lambda ingress: None,
        control: Control = uncontrolled,
        mirror: Callable[[], MirrorReader | None] = lambda: None,
        terminate: Terminate = unterminated,
    ) -> None:
        self._control = control
        self._mirror = mirror
        self._limits = limits
        self._admission = admission
        self._next_alias = next_alias
        self._connect = connect
        self._telemetry = telemetry
        self._measure = measure
        self._terminate = terminate
        # Including ended ones, until both connections are lost.
        self._relays: set[Relay] = set()
        self.clock = clock

    def open(
        self,
        address: str,
        transport: Any,
        first: bytes,
        ingress: Ingress = RTMP,
        left: Callable[[], None] = ignore,
    ) -> None:
        """Relay the client connected by ``transport``, whose ``first`` bytes have been read already.

        ``left`` is called when its connection is lost, unless the client is refused here: its protocol is
        not changed then.
        """
        try:
            self._admission.enter(address)
        except RequestRefused as error:
            self._telemetry.open_refused(error, address, ingress)
            transport.abortConnection()
            return
        figures = self._measure(ingress)
        relay = Relay(
            *(self, self._next_alias(), address, self._limits, ingress, figures, left),
            self._mirror(),
        )
        relay.client.bytes_read = len(first)
        if figures is not None:
            figures.carried_by(transport, None)
        relay.access = self._control(relay, Visitor(relay.alias, address))
        self._relays.add(relay)
        transport.protocol = relay.client
        # A publisher that closes with unread answers resets its connection.
        transport.last_bytes = LAST_BYTES_OF_STREAM
        # Nothing is read before the upstream connection is established.
        transport.stopReading()
        relay.client.makeConnection(transport)
        Deferred.fromCoroutine(self._join(relay, first)).addErrback(self._fail, relay)

    def sweep(self, now: float) -> None:
        """Run every relay's expired deadlines."""
        for relay in tuple(self._relays):
            try:
                relay.sweep(now)
            except Exception:
                # Other relays' deadlines must still be checked.
                _log.failure("Relay {alias} failed and ends", alias=relay.alias)
                relay.end(EndReason.FAULT)

    def end_all(self, reason: EndReason) -> None:
        """End every relay."""
        for relay in tuple(self._relays):
            relay.end(reason)

    # Called by the relays

    def ended(self, relay: Relay, reason: EndReason) -> None:
        """A relay has ended."""
        self._admission.leave(relay.address)
        self._telemetry.session_ended(relay, reason)

    def forget(self, relay: Relay) -> None:
        """Both connections of an ended relay have been lost."""
        self._relays.discard(relay)

    async def _join(self, relay: Relay, first: bytes) -> None:
        try:
            relay.server = await self._connect(relay.upstream, relay)
        except RequestRefused as error:
            if not relay.ended:
                self._telemetry.open_refused(error, relay.address, relay.ingress)
            relay.end(reason_of_refusal(error))
            return
        if not relay.ended:
            rtmpe = self._terminate(relay.server)
            relay.termination = None if rtmpe is None else RelayTermination(relay, rtmpe)
            self._telemetry.session_opened(relay)
            relay.join(first)

    def _fail(self, failure: Failure, relay: Relay) -> None:
        _log.failure("A relay failed", failure)
        relay.end(EndReason.FAULT)
