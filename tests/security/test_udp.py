"""Floods of datagrams from forged sources: clients are served, and what they cost is bounded."""

from __future__ import annotations

import gc
import socket
from contextlib import closing

from attrs import evolve

from gateway.protocols.udp_flows import LEAST_S, UNANSWERED_BYTES
from tests.helpers.logged import logged
from tests.helpers.udp_relay import LIMITS, Relay

_FLOOD = 300
_PLACES = 20


def flood(relay: Relay, block: int) -> None:
    """One datagram from each of many addresses, which never answer."""
    for number in range(_FLOOD):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forged:
            forged.bind((f"127.{block}.{number // 200}.{number % 200 + 1}", 0))
            forged.sendto(b"f" * 100, relay.place)
            relay.turning.turn()
    relay.turning.settle()


def test_a_flood_from_forged_sources_keeps_no_client_out_for_long() -> None:
    with closing(Relay(evolve(LIMITS, flows=_PLACES))) as relay, logged() as lines:
        client = relay.client()
        flow = relay.connect(client)
        lines.clear()
        for block in (10, 11, 12):
            relay.now += LEAST_S
            flood(relay, block)
            assert len(relay.listener.table) <= _PLACES
            client.sendto(b"live", relay.place)
            while relay.read(relay.server) != (b"live", flow):
                pass
        relay.now += LEAST_S
        while relay.turning.settle() or _drained(relay.server):
            pass
        relay.connect(relay.client())
        assert len(relay.reports.opened) == 2
        assert not [line for line in lines if "session" in line], "no line for a forged source"


def _drained(server: socket.socket) -> int:
    """How many bytes waited there."""
    try:
        return len(server.recv(2048))
    except BlockingIOError:
        return 0


def test_a_victim_of_two_different_forged_datagrams_gets_a_limited_amount() -> None:
    """The worst that a forger can do who knows the rules, if the victim's host does not refuse
    datagrams."""
    with closing(Relay()) as relay:
        victim = relay.client()
        victim.sendto(b"first", relay.place)
        _, flow = relay.read(relay.server)
        relay.server.sendto(b"r", flow)
        relay.read(victim)
        victim.sendto(b"second", relay.place)
        relay.read(relay.server)
        got = 0
        for _ in range(2 * UNANSWERED_BYTES // 1400):
            relay.server.sendto(bytes(1400), flow)
            relay.turning.turn()
            got += _drained(victim)
        relay.turning.settle()
        got += _drained(victim)
        assert got <= UNANSWERED_BYTES
        assert relay.listener.drops["unanswered"] > 0


def test_datagrams_that_the_server_ignores_do_not_change_the_order_of_its_addresses() -> None:
    with closing(Relay()) as relay:
        # Nothing listens there: it is tried last as soon as that is known.
        relay.add_silent_address().close()
        relay.client().sendto(b"hello", relay.place)
        relay.turning.until(lambda: relay.reports.ended)
        flood(relay, 10)
        relay.now += LIMITS.proof_s
        relay.listener.sweep(relay.now)
        while _drained(relay.server):
            pass
        for _ in range(4):
            relay.connect(relay.client())
        assert relay.listener.refusals["server"] == 1


def test_ended_sessions_leave_no_sockets() -> None:
    with closing(Relay(evolve(LIMITS, flows=_PLACES))) as relay:
        relay.connect(relay.client())
        before = len(relay.turning.reactor.getReaders())
        for block in (20, 21):
            relay.now += LIMITS.proof_s
            flood(relay, block)
        relay.now += LIMITS.proof_s
        relay.listener.sweep(relay.now)
        assert len(relay.turning.reactor.getReaders()) == before
        gc.collect()
