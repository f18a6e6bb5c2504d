"""Nothing is lost, doubled or reordered between a client and a gateway, whatever happens between them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.interfaces import End
from tests.helpers.tunnel_simulation import Simulation

_STEPS = 150
# The disorder may delay a connection for long.
_PATIENT = Limits(gap_s=90.0, unused_session_s=90.0, silent_session_s=90.0, vanished_s=90.0)
# A connection is given up after 15 s without a byte, if others were before it.
_LONGEST_SILENCE_S = 40
_SIZES = (1, 30, 180, 300, 1000, 5000, 100_000, 100_000)
# Sizes of written data: those of a player, whose answers are streamed, are small.
_WRITTEN = {"publisher": _SIZES, "player": (1, 30)}


class Stream:
    """Bytes that tell their position."""

    def __init__(self) -> None:
        self.made = bytearray()

    def take(self, size: int) -> bytes:
        begin = len(self.made)
        data = b"".join(b"%07d " % at for at in range(begin // 8, (begin + size) // 8 + 1))
        data = data[begin % 8 :][:size]
        self.made += data
        return data


class Disorder:
    """Random events on a simulated session. They are drawn by their weights."""

    def __init__(
        self, simulation: Simulation, random: Random, role: str = "publisher", silent: bool = False
    ) -> None:
        self._written = _WRITTEN[role]
        self.simulation = simulation
        self.up, self.down = Stream(), Stream()
        self._random = random
        self._silent = silent

    def run(self, steps: int = _STEPS) -> None:
        end = self._silence if self._silent else self._cut
        events = (self._write, self._say, self._move_up, self._move_down, end, self._pass)
        for event in self._random.choices(events, weights=(3, 3, 4, 4, 1, 2), k=steps):
            if self.simulation.end is not None:
                return
            event()
            self.simulation.establish()
            self.check()

    def check(self) -> None:
        """What has arrived is the beginning of what was sent."""
        assert self.up.made.startswith(self.simulation.sent_up)
        assert self.down.made.startswith(self.simulation.down)

    def _write(self) -> None:
        size = self._random.choice(self._written)
        self.simulation.client.write(self.up.take(size), self.simulation.now)

    def _say(self) -> None:
        upstream = self.simulation.upstream
        if upstream.reading and not upstream.ended:
            upstream.says(self.down.take(self._random.choice(_SIZES)))

    def _move_up(self) -> None:
        self.simulation.move_up(self._link(), self._random.choice(_SIZES))

    def _move_down(self) -> None:
        self.simulation.move_down(self._link(), self._random.choice(_SIZES))

    def _cut(self) -> None:
        arrives, unnoticed = self._random.random() < 0.5, self._random.random() < 0.5
        self.simulation.cut(self._link(), arrives, unnoticed)

    def _silence(self) -> None:
        """A connection is dead, which nobody is told; or what was sent on such a one arrives late."""
        if self._random.random() < 0.5:
            self.simulation.silence(self._link())
        else:
            self.simulation.arrive_late(self._random.choice(_SIZES))

    def _link(self) -> int:
        """One of the connections; 0 if there is none."""
        connections = self.simulation.connections
        return self._random.choice([n for n, each in enumerate(connections) if each] or [0])

    def _pass(self) -> None:
        self.simulation.passes(self._random.choice((0.001, 0.1, 0.6)))


@pytest.mark.parametrize("role", _WRITTEN)
@pytest.mark.parametrize("direct", [True, False])
@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_with_a_gateway_all_data_arrives_once_and_in_order_through_any_cuts(
    direct: bool, role: str, seed: int
) -> None:
    simulation = Simulation(direct=direct, limits=_PATIENT).open()
    disorder = Disorder(simulation, Random(seed), role)
    disorder.run()
    simulation.settle(2.0)
    assert simulation.end is None, simulation.cause
    assert simulation.sent_up == disorder.up.made
    assert simulation.down == disorder.down.made
    simulation.client.close(simulation.now)
    simulation.settle(1.0)
    assert simulation.end is End.CLOSED
    assert simulation.upstream.ended == "closed"


@pytest.mark.parametrize("role", _WRITTEN)
@pytest.mark.parametrize("direct", [True, False])
@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_with_a_gateway_all_data_arrives_once_and_in_order_over_connections_that_fall_silent(
    direct: bool, role: str, seed: int
) -> None:
    simulation = Simulation(direct=direct, limits=_PATIENT).open()
    disorder = Disorder(simulation, Random(seed), role, silent=True)
    disorder.run()
    for _ in range(_LONGEST_SILENCE_S):
        simulation.settle(1.0)
        if (simulation.sent_up, simulation.down) == (disorder.up.made, disorder.down.made):
            break
    assert simulation.end is None, simulation.cause
    assert simulation.sent_up == disorder.up.made
    assert simulation.down == disorder.down.made
    while simulation.ghosts:
        simulation.arrive_late(1 << 30)
    assert simulation.sent_up == disorder.up.made


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_without_an_agreement_a_session_survives_or_ends_but_never_loses_data_in_between(
    seed: int,
) -> None:
    simulation = Simulation(agrees=False, limits=_PATIENT).open()
    disorder = Disorder(simulation, Random(seed))
    disorder.run()
    simulation.settle(2.0)
    disorder.check()
    if simulation.end is None:
        assert simulation.sent_up == disorder.up.made
        assert simulation.down == disorder.down.made
