"""Telemetry of fabricated sessions of all kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

from gateway.protocols.commands import Kind
from gateway.protocols.http import Fields
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.rtmp.mirror_states import MirroredStream, MirrorState
from gateway.protocols.session import Session
from gateway.protocols.udp_flows import Flow, FlowLimits, FlowTable
from gateway.telemetry.exposition.session_collector import (
    FAMILY_COUNT,
    SessionCollector,
    assembled,
)
from gateway.telemetry.exposition.sources import Sources, UpstreamHealth
from gateway.telemetry.exposition.worker_collector import WorkerCollector
from gateway.telemetry.measurement.event_loop import Loop
from gateway.telemetry.measurement.totals import FAILURES
from gateway.telemetry.sessions import ALL, SessionFilter, Sessions
from gateway.tunnels.tunnel import Tunnel
from gateway.udp.listener import UdpListener

HOSTILE = b'evil"} 1\\\x7f\xff'
LIMITS = Limits()


class DatagramListener:
    """The figures of a UDP listener without sockets, with one session."""

    def __init__(self) -> None:
        self.table = FlowTable(FlowLimits(9, 9, 1500, 60.0, 10.0), lambda host: True)
        self.refusals = Counter(client=0, server=2)
        flow = self.table.open(("192.0.2.1", 1), 5, 0.0)
        assert isinstance(flow, Flow)
        self.table.receive(flow, b"hello", 0.0)
        self.table.reply(flow, 16)

    unproven = UdpListener.unproven
    relayed = UdpListener.relayed
    drops = UdpListener.drops


class Node:
    """A worker's telemetry, and time as a number."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.sessions = Sessions(self.clock, lambda: 1.7e9 + self.now, **settings)
        self.loop = Loop(0.05, self.clock)
        self.sources = Sources(LIMITS, 1 << 30)
        self.metrics = WorkerCollector(self.sessions, self.loop, self.sources)
        self._made = 0

    def clock(self) -> float:
        return self.now

    def open(self, protocol: str = "rtmpt", server: str = "media:1935") -> Tunnel:
        """A tunnel whose upstream accepts all data and discards it."""
        self._made += 1
        ingress = Ingress(protocol, "0.0.0.0:80")
        tunnel = Tunnel(
            b"secret-%d" % self._made,
            f"n100-{self._made}",
            "192.0.2.1",
            Fields(1, ((b"user-agent", HOSTILE),), 1, False, True, False),
            self.clock,
            self.sessions.session_ended,
            ingress,
            self.sessions.measure(ingress),
        )
        tunnel.session = Session(LIMITS, tunnel, 0.25, self.now, figures=tunnel.figures)
        tunnel.server = server
        self.now += 0.004
        self.sessions.session_opened(tunnel)
        return tunnel

    def talk(self, tunnels: list[Tunnel], rounds: int) -> None:
        """Sends that are answered with data which the upstream sent shortly before."""
        random = Random(1)
        for number in range(rounds):
            began = self.now
            for tunnel in tunnels:
                self.now = began + random.random() * 0.2
                tunnel.session.receive(Kind.SEND, number, b"x", self.now)
                tunnel.session.upstream_data(b"y", self.now + random.random() * 0.01)
            self.now = began + 0.3


def health() -> list[UpstreamHealth]:
    dials = [0] * 74
    dials[20] = 3
    return [
        UpstreamHealth(
            *("media:1935", True, True, 2, dials),
            failure_reasons={**dict.fromkeys(FAILURES, 0), "refused": 2},
            group="live",
            checks={"succeeded": dials, "failed": [0] * 74},
            failed_look_ups=4,
        )
    ]


def mirrors() -> list[MirrorState]:
    waiting = MirroredStream(
        *("live/cam", "waiting", 3.0, "media:1935", 0, 7, 2, "the server does not read", 1.5)
    )
    return [MirrorState("platform", 4, 1, 2, 7, 1000, [waiting])]


def session_exposition(
    collector: SessionCollector, accept: str = "", wanted: SessionFilter = ALL
) -> Iterator[bytes]:
    """The exposition of one worker's sessions, as the supervisor assembles it."""
    texts: list[list[bytes]] = [[] for _ in range(FAMILY_COUNT)]
    for index, text in collector.samples(accept, wanted):
        texts[index].append(text)
        yield b""
    yield from assembled(texts, accept)
