"""The ``[[udp]]`` tables of a worker: its UDP listeners, created, started and stopped together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, final

from twisted.logger import Logger

from gateway.addresses import TcpAddress
from gateway.configuration.sections import Config, Udp
from gateway.protocols.networks import Admission as AddressRules
from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import FlowLimits
from gateway.tunnels.admission import Admission
from gateway.udp.listener import Telemetry, UdpListener, UdpSettings
from gateway.upstreams.dial import Server
from gateway.upstreams.names import Names, look_up_due
from gateway.workers import proxy_loops

_log = Logger()


@final
class UdpRelays:
    """``permits``: whether the rules of ``[[access]]`` permit a client address. ``workers``: the number
    that share the limits. ``listeners`` is filled at once, by configured address.
    """

    def __init__(
        self,
        configuration: Config,
        reactor: Any,
        workers: int,
        admission: Admission,
        telemetry: Telemetry,
        next_alias: Callable[[], str],
        permits: Callable[[str], bool],
    ) -> None:
        self._listeners = [
            UdpListener(
                _settings(udp, configuration.limits.unused_session_s, workers, permits),
                *(reactor, Server(udp.server, "udp"), admission, telemetry, next_alias, monotonic),
            )
            for udp in configuration.udp
        ]
        self.listeners: Mapping[str, UdpListener] = {
            str(udp.address): listener
            for udp, listener in zip(configuration.udp, self._listeners, strict=True)
        }
        self._addresses: list[TcpAddress] = []

    def __iter__(self) -> Iterator[UdpListener]:
        return iter(self._listeners)

    def adopt(self, descriptors: Sequence[int]) -> None:
        """Take over the descriptors of the supervisor's sockets, one for each listener."""
        self._addresses = [
            listener.adopt(descriptor)
            for listener, descriptor in zip(self._listeners, descriptors, strict=True)
        ]

    async def look_up(self, names: Names) -> None:
        """Resolve the servers' names. Raises ConfigurationError for a name that is unknown, or that of a
        listener.
        """
        for listener in self._listeners:
            server = listener.server
            await server.look_up(names)
            proxy_loops.refuse_loop(server.address, server.hosts, self._addresses, server.role)
            _log.info("datagrams are relayed to {server}", server=server.name)

    async def look_up_again(self, names: Names) -> None:
        """Resolve the names whose time is up, for new sessions."""
        await look_up_due([listener.server for listener in self._listeners], names)

    def start(self) -> None:
        """Receive datagrams from now on."""
        for listener in self._listeners:
            listener.start()

    def stop_listening(self) -> None:
        """Open no more sessions."""
        for listener in self._listeners:
            listener.stop_listening()

    def end_all(self, reason: EndReason) -> None:
        """End every session."""
        for listener in self._listeners:
            listener.end_all(reason)

    def sweep(self, now: float) -> None:
        """End the sessions whose deadline has passed."""
        for listener in self._listeners:
            listener.sweep(now)


def files_needed(configuration: Config) -> int:
    """The file descriptors that sessions by UDP need, beside those of ``[limits]``: the client's socket, as
    a connection's, and the server's, as every session's.
    """
    return sum(udp.sessions for udp in configuration.udp)


def _settings(
    udp: Udp, proof_s: float, workers: int, permits: Callable[[str], bool]
) -> UdpSettings:
    rules = AddressRules.of(udp.allow, udp.deny)
    limits = FlowLimits(
        flows=_share(udp.sessions, workers),
        flows_per_client=_share(udp.sessions_per_address, workers),
        datagram_bytes=udp.datagram_bytes,
        idle_s=udp.idle_s,
        proof_s=proof_s,
    )
    return UdpSettings(
        str(udp.address),
        limits,
        udp.queued_bytes,
        udp.proxy_protocol != "off",
        lambda address: rules.permits(address) and permits(address),
    )


def _share(limit: int, workers: int) -> int:
    """Each worker's part of a limit; at least one."""
    return -(-limit // workers)
