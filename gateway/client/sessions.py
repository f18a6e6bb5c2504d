"""The local connections and their relayed streams: limits, the memory of ways, log lines and metrics.

A relayed stream is a ``Relay`` as in the gateway; what it calls the upstream is the gateway here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from gateway.client.causes import sentence_on
from gateway.client.contestant import Contestant
from gateway.client.figures import Figures
from gateway.client.local_connection import LocalConnection, Won
from gateway.client.metrics import Metrics
from gateway.client.network import network_key
from gateway.client.remote_gateway import RemoteGateway
from gateway.client.state_file import StateFile
from gateway.logs import repeated
from gateway.periodic_calls import periodic_call
from gateway.port_test.observations import Failure
from gateway.port_test.ways import Way
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.sniff import WireProtocol
from gateway.protocols.way_memory import Remembered
from gateway.telemetry.logs.formatting import duration
from gateway.tunnels.relay import Relay

_SWEEP_S: Final = 1.0
# For the rest of the data, and for the answers to the closes of tunnels.
_STOP_S: Final = 3.0
_REASONS: Final[Mapping[EndReason, str]] = {
    EndReason.CLIENT_CLOSED: "closed by the local program",
    EndReason.CLIENT_LOST: "the local program's connection was lost",
    EndReason.CLIENT_VANISHED: "the local program's machine vanished",
    EndReason.CLIENT_STALLED: "the local program read no more data",
    EndReason.UPSTREAM_CLOSED: "closed by the gateway",
    EndReason.UPSTREAM_LOST: "the connection to the gateway was lost",
    EndReason.UPSTREAM_VANISHED: "the gateway does not answer any more",
    EndReason.UPSTREAM_STALLED: "the gateway accepted no more data",
    EndReason.DRAINED: "this program stops",
}
_HINTS: Final[Mapping[WireProtocol, str]] = {
    WireProtocol.HTTP: "it speaks HTTP; use rtmp://, not rtmpt://, in the local program",
    WireProtocol.TLS: "it speaks TLS; use rtmp://, not rtmps://, in the local program",
    WireProtocol.UNKNOWN: "it does not speak RTMP",
}


@final
class Sessions(ServerFactory):
    """``listen`` with it. ``start`` and ``stop`` must be called once, in this order."""

    noisy = False
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: RemoteGateway,
        ways: Sequence[Way],
        state: StateFile,
        metrics: Metrics,
        most_connections: int,
        timeout_s: float,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._ways = ways
        self._state = state
        self._metrics = metrics
        self._most_connections = most_connections
        self._timeout_s = timeout_s
        self._waiting: set[LocalConnection] = set()
        self._relays: set[Relay] = set()
        self._number = 0
        self._last = ""
        self._stopped: Deferred[None] | None = None
        self._closing: Deferred[None] | None = None
        self._sweeping = periodic_call(self._sweep, reactor)
        metrics.watch(lambda: len(self._waiting), self._live)

    def start(self) -> None:
        """Begin to enforce deadlines."""
        self._sweeping.start(_SWEEP_S, now=False)

    async def stop(self) -> None:
        """End all connections: what was read is written, and the sessions of tunnels are closed, also those
        that lost a race and whose open is answered within ``_STOP_S``.
        """
        for connection in tuple(self._waiting):
            connection.close()
        for relay in tuple(self._relays):
            relay.end(EndReason.DRAINED)
        self._stopped = Deferred()
        self._closing = Deferred.fromCoroutine(self._gateway.close_given_up(_STOP_S))
        late = self._reactor.callLater(_STOP_S, self._abort)
        if self._relays:
            await self._stopped
        await self._closing
        if late.active():
            late.cancel()
        if self._sweeping.running:
            self._sweeping.stop()

    def hurry(self) -> None:
        """Have ``stop``, if it waits, wait no longer."""
        if self._closing is not None:
            self._closing.cancel()
            self._abort()

    def _abort(self) -> None:
        for relay in tuple(self._relays):
            relay.client.abort()
            relay.upstream.abort()

    @property
    def status(self) -> str:
        """One line for systemd."""
        last = f", the last one by {self._last}" if self._last else ""
        return f"streams: {len(self._live())}{last}"

    # Twisted calls

    def buildProtocol(self, addr: object) -> LocalConnection | None:  # type: ignore[override]
        if len(self._waiting) + len(self._relays) >= self._most_connections:
            self._metrics.refused("limit")
            repeated.warn(
                self._log,
                "connections",
                "local connection refused: {count} are open; raise --connections",
                count=self._most_connections,
            )
            return None
        connection = LocalConnection(
            *(self._reactor, self, self._gateway, self._ways, self._timeout_s)
        )
        self._waiting.add(connection)
        return connection

    # The local connections call

    def clock(self) -> float:
        return float(self._reactor.seconds())

    def recall(self) -> Remembered | None:
        return self._state.recall(self._network)

    def won(self, connection: LocalConnection, contestant: Contestant, won: Won) -> None:
        self._waiting.discard(connection)
        self._note_failures(won.failures)
        self._state.remember(self._network, str(won.way), won.took_s)
        self._metrics.won(won.way, won.took_s)
        self._last = str(won.way)
        relay = self._make_relay(contestant, won)
        self._log.info(
            "stream {alias} goes by {way}, after {took}{tried}",
            alias=relay.alias,
            way=str(won.way),
            took=duration(won.took_s),
            tried=_listed("; not by ", won.failures),
        )
        hello, answer = connection.hello, contestant.received
        relay.client.bytes_read, relay.upstream.bytes_read = len(hello), len(answer)
        connection.hand_over(relay.client)
        contestant.hand_over(relay.upstream)
        relay.join(connection.early)
        relay.client.transport.write(answer)

    def refused(self, connection: LocalConnection, failures: dict[Way, Failure]) -> None:
        self._note_failures(failures)
        self._metrics.refused("no_way")
        self._log.warn(
            "no way to {gateway} gets through{tried}; rtmpt-port-test {gateway} shows more",
            gateway=self._gateway.name,
            tried=_listed(": ", failures),
        )

    def no_rtmp(self, connection: LocalConnection, protocol: WireProtocol) -> None:
        self._metrics.refused("no_rtmp")
        repeated.warn(
            self._log,
            f"protocol {protocol.value}",
            "local connection refused: {hint}",
            hint=_HINTS[protocol],
        )

    def left(self, connection: LocalConnection) -> None:
        self._waiting.discard(connection)

    # The relays call

    def ended(self, relay: Relay, reason: EndReason) -> None:
        figures = relay.figures
        figures.sample()
        self._metrics.ended(relay, reason)
        self._log.info(
            "stream {alias} by {way} ended: {reason}; {words}",
            alias=relay.alias,
            way=figures.way,
            reason=_REASONS.get(reason, reason.value),
            words=figures.words(self.clock() - relay.opened_at, relay.bytes_up, relay.bytes_down),
        )

    def forget(self, relay: Relay) -> None:
        self._relays.discard(relay)
        if self._stopped is not None and not self._relays:
            self._stopped.callback(None)

    # Internal

    @property
    def _network(self) -> str:
        return network_key(self._gateway.host, self._gateway.hosts, self._gateway.proxy)

    def _make_relay(self, contestant: Contestant, won: Won) -> Relay:
        self._number += 1
        observe = self._metrics.answers_of(won.way)
        figures = Figures(str(won.way), won.took_s, contestant.transport, observe)
        relay = Relay(self, str(self._number), "", Limits(), figures=figures)
        self._relays.add(relay)
        return relay

    def _live(self) -> list[Relay]:
        return [relay for relay in self._relays if not relay.ended]

    def _note_failures(self, failures: dict[Way, Failure]) -> None:
        for way in failures:
            self._metrics.failed(way)
            self._state.forget(self._network, str(way))

    def _sweep(self) -> None:
        now = self.clock()
        for relay in tuple(self._relays):
            relay.figures.sample()
            relay.sweep(now)


def _listed(introduction: str, failures: dict[Way, Failure]) -> str:
    # Each sentence once.
    ways: dict[str, list[str]] = {}
    for way, failure in failures.items():
        ways.setdefault(sentence_on(way, failure), []).append(str(way))
    listed = "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in ways.items())
    return f"{introduction}{listed}" if listed else ""
