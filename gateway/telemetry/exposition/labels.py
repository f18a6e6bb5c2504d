"""Which labels can occur together, by what is configured: these have their samples from the start.

Prometheus tells an increase from two samples; a counter that appears with its first event hides that one.
What cannot occur has none: a relay has no sequence gaps, and hundreds of zeros would say nothing. The lists
forbid nothing: what happens all the same is shown when it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

from gateway.protocols.reasons import EndReason

TUNNELLED: Final = ("rtmpt", "rtmpts")
RELAYED: Final = ("rtmp", "rtmps")
_PLAIN: Final = ("rtmpt", "rtmp")

# Of a session that lives: the positions at the head of protocols/session.py; a relay has one.
_TUNNEL_STATES: Final = ("fresh", "ordinary", "holding", "streaming", "keeping", "waiting")
_RELAY_STATES: Final = ("ordinary",)

_REASONS: Final = (
    *(EndReason.CLIENT_CLOSED, EndReason.ABANDONED, EndReason.UPSTREAM_CLOSED),
    *(EndReason.UPSTREAM_LOST, EndReason.UPSTREAM_STALLED, EndReason.DRAINED),
    *(EndReason.ENDED_BY_OPERATOR, EndReason.FAULT),
    *(EndReason.CLIENT_VANISHED, EndReason.UPSTREAM_VANISHED, EndReason.REPLACED),
)
_TUNNEL_REASONS: Final = (
    *_REASONS,
    *(EndReason.CLIENT_SILENT, EndReason.SEQUENCE_GAP, EndReason.WINDOW_FULL),
    # Cut in a streamed answer.
    EndReason.CLIENT_LOST,
)
_RELAY_REASONS: Final = (
    *_REASONS,
    *(EndReason.CLIENT_LOST, EndReason.CLIENT_STALLED, EndReason.UPSTREAM_UNAVAILABLE),
    EndReason.RESOURCES_EXHAUSTED,
)

# Latencies that only tunnels have, and those that are measured only where media is read as it passes.
_OF_TUNNELS: Final = frozenset({"poll_gap"})
_OF_MEDIA: Final = frozenset({"ping_client", "ping_upstream", "media_late"})

# The counts of a listener's connections: by what they are served as, and by reason for refusal
# (listeners/protocol_detection.py).
SPOKEN: Final = ("http", "rtmp")
HANDSHAKES: Final = {"tls": "succeeded", "tls_failed": "failed"}
_UNSERVED: Final = ("full", "left", "silent", "unknown")


@frozen
class Entrance:
    """A listener as configured; ``by_address`` when it does not take clients from everywhere."""

    listener: str
    tls: bool = False
    proxy_protocol: bool = False
    by_address: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """What can be spoken there: every listener takes whatever arrives."""
        return (*TUNNELLED, *RELAYED) if self.tls else _PLAIN

    @property
    def counts(self) -> tuple[str, ...]:
        """The keys that its connections can be counted under."""
        return (
            *(*SPOKEN, *_UNSERVED),
            *(HANDSHAKES if self.tls else ()),
            *(("untrusted_proxy", "bad_proxy_header") if self.proxy_protocol else ()),
            *(("denied",) if self.by_address else ()),
        )


@frozen
class Expected:
    """What can occur with these ``entrances``, and with ``media`` read as it passes or not."""

    entrances: tuple[Entrance, ...] = ()
    media: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """Of all entrances, each once."""
        return tuple(dict.fromkeys(each for one in self.entrances for each in one.protocols))

    def sums(self, upstreams: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """Protocol, listener and upstream of sessions."""
        for upstream in upstreams:
            for entrance in self.entrances:
                for protocol in entrance.protocols:
                    yield protocol, entrance.listener, upstream

    def states(self) -> Iterator[tuple[str, str]]:
        """Protocol and state of living sessions."""
        for protocol in self.protocols:
            for state in _TUNNEL_STATES if protocol in TUNNELLED else _RELAY_STATES:
                yield protocol, state

    def ends(self) -> Iterator[tuple[str, str]]:
        """Protocol and reason of ends."""
        for protocol in self.protocols:
            for reason in _TUNNEL_REASONS if protocol in TUNNELLED else _RELAY_REASONS:
                yield protocol, reason.value

    def listener_states(self) -> dict[str, tuple[str, ...]]:
        """The keys that each listener's connections can be counted under."""
        return {entrance.listener: entrance.counts for entrance in self.entrances}

    def has(self, latency: str, protocol: str) -> bool:
        """Whether sessions of ``protocol`` can have values of ``latency``."""
        if latency in _OF_MEDIA:
            return self.media
        return protocol in TUNNELLED or latency not in _OF_TUNNELS


NOTHING_EXPECTED: Final = Expected()
