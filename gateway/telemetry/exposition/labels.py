"""The label combinations that can occur with the configuration. Their series exist from the start.

Prometheus calculates an increase from two samples, so a counter that appears with its first event hides
that event. Combinations that cannot occur have no series: a relay has no sequence gaps. The lists are not
restrictions: other combinations are exposed when they occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

from gateway.protocols.ingress import UDP
from gateway.protocols.reasons import EndReason

TUNNELLED: Final = ("rtmpt", "rtmpts")
RELAYED: Final = ("rtmp", "rtmps")
_PLAIN: Final = ("rtmpt", "rtmp")

# The states of active sessions: those at the head of protocols/session.py; a relay has one.
_TUNNEL_STATES: Final = ("fresh", "ordinary", "holding", "streaming", "keeping", "waiting")
_RELAY_STATES: Final = ("ordinary",)

_REASONS: Final = (
    *(EndReason.CLIENT_CLOSED, EndReason.ABANDONED, EndReason.UPSTREAM_CLOSED),
    *(EndReason.UPSTREAM_LOST, EndReason.UPSTREAM_STALLED, EndReason.DRAINED),
    *(EndReason.ENDED_BY_OPERATOR, EndReason.FAULT),
    *(EndReason.CLIENT_VANISHED, EndReason.UPSTREAM_VANISHED, EndReason.REPLACED),
    *(EndReason.WORKER_LOST, EndReason.DENIED, EndReason.BAD_HANDSHAKE),
)
_TUNNEL_REASONS: Final = (
    *_REASONS,
    *(EndReason.CLIENT_SILENT, EndReason.SEQUENCE_GAP, EndReason.WINDOW_FULL),
    # A connection lost during a streamed answer.
    EndReason.CLIENT_LOST,
)
_RELAY_REASONS: Final = (
    *_REASONS,
    *(EndReason.CLIENT_LOST, EndReason.CLIENT_STALLED, EndReason.UPSTREAM_UNAVAILABLE),
    EndReason.RESOURCES_EXHAUSTED,
)
_UDP_REASONS: Final = (
    *(EndReason.CLIENT_SILENT, EndReason.CLIENT_LOST, EndReason.ABANDONED),
    *(EndReason.UPSTREAM_LOST, EndReason.UPSTREAM_UNAVAILABLE, EndReason.DRAINED),
    *(EndReason.ENDED_BY_OPERATOR, EndReason.WORKER_LOST, EndReason.FAULT),
)

# Latencies of tunnels only, and latencies that are measured only if media is read.
_OF_TUNNELS: Final = frozenset({"poll_gap"})
_OF_MEDIA: Final = frozenset({"ping_client", "ping_upstream", "media_late"})

# The counts of a listener's connections: by what they are served as, and by reason for refusal
# (listeners/protocol_detection.py).
_ALWAYS_SPOKEN: Final = ("http", "rtmp")
_POLICY: Final = "policy"
SPOKEN: Final = (*_ALWAYS_SPOKEN, _POLICY)
HANDSHAKES: Final = {"tls": "succeeded", "tls_failed": "failed"}
_UNSERVED: Final = ("full", "left", "silent", "unknown")


@frozen
class Entrance:
    """A configured listener. ``by_address``: whether it has access rules by address. ``socket_policy``:
    whether requests for Flash's policy of sockets are answered.
    """

    listener: str
    tls: bool = False
    proxy_protocol: bool = False
    by_address: bool = False
    socket_policy: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that clients can use there: all that do not need TLS, and with TLS all."""
        return (*TUNNELLED, *RELAYED) if self.tls else _PLAIN

    @property
    def counts(self) -> tuple[str, ...]:
        """The keys that its connections can be counted under."""
        return (
            *(*_ALWAYS_SPOKEN, *_UNSERVED),
            *(HANDSHAKES if self.tls else ()),
            *(("untrusted_proxy", "bad_proxy_header") if self.proxy_protocol else ()),
            *(("denied",) if self.by_address else ()),
            *((_POLICY,) if self.socket_policy else ()),
        )


@frozen
class Expected:
    """The label values that can occur with these listeners. ``media``: whether media is read. ``udp``:
    address and server of each UDP listener.
    """

    entrances: tuple[Entrance, ...] = ()
    media: bool = False
    udp: tuple[tuple[str, str], ...] = ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols of all listeners but UDP, without duplicates."""
        return tuple(dict.fromkeys(each for one in self.entrances for each in one.protocols))

    def sums(self, upstreams: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """The combinations of protocol, listener and upstream."""
        for upstream in upstreams:
            for entrance in self.entrances:
                for protocol in entrance.protocols:
                    yield protocol, entrance.listener, upstream
        for listener, server in self.udp:
            yield UDP, listener, server

    def states(self) -> Iterator[tuple[str, str]]:
        """The combinations of protocol and state."""
        for protocol in self.protocols:
            for state in _TUNNEL_STATES if protocol in TUNNELLED else _RELAY_STATES:
                yield protocol, state
        if self.udp:
            yield UDP, _RELAY_STATES[0]

    def ends(self) -> Iterator[tuple[str, str]]:
        """The combinations of protocol and end reason."""
        for protocol in self.protocols:
            for reason in _TUNNEL_REASONS if protocol in TUNNELLED else _RELAY_REASONS:
                yield protocol, reason.value
        if self.udp:
            yield from ((UDP, reason.value) for reason in _UDP_REASONS)

    def listener_states(self) -> dict[str, tuple[str, ...]]:
        """The keys that each listener's connections can be counted under."""
        return {entrance.listener: entrance.counts for entrance in self.entrances}

    def has(self, latency: str, protocol: str) -> bool:
        """Whether sessions of ``protocol`` can have ``latency``."""
        if latency in _OF_MEDIA:
            return self.media
        return protocol in TUNNELLED or latency not in _OF_TUNNELS


NOTHING_EXPECTED: Final = Expected()
