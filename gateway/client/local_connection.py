"""A local program's connection until its stream is relayed.

    greeted    its first bytes show RTMP or RTMPE; everything else is refused
    looked up  the gateway's name is resolved
    raced      the handshake is sent by one way after another, until the server answers (way_race.py)
    relayed    the way that answered first carries the stream; this class is done

If no way gets through, the connection is closed, and the log says why each way failed. Programs send C0
and C1, and wait for the server. What a program sends without waiting is kept for the way that wins, so that
it is sent once; a program that sends much more is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final, Protocol, final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from gateway.client.contestant import Contestant
from gateway.client.proxied_ways import ProxiedWay
from gateway.client.remote_gateway import RemoteGateway
from gateway.port_test.observations import Failure, Kind, Step
from gateway.port_test.ways import Way
from gateway.protocols.limits import Limits
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.protocols.sniff import WireProtocol, wire_protocol_of
from gateway.protocols.way_memory import Remembered
from gateway.protocols.way_race import STAGGER_S, WayRace

_log = Logger()

_FIRST_BYTES_S: Final = Limits().first_bytes_s
# C0 and C1, which are as long in RTMPE: the part that each way gets.
_HANDSHAKE_BYTES: Final = 1 + BLOCK_BYTES
# More than the handshake is sent only by programs that do not wait for the server.
_MOST_HELLO_BYTES: Final = 64 * 1024
# A remembered way gets this multiple of the time that it took before the others begin, within these bounds:
# the time varies, and a way that no longer gets through should not cost a second.
_PATIENCE: Final = 2.0
_MOST_HEAD_START_S: Final = 1.0
# A way has more time than is left for the race, so that the race ends it, which knows what it waits for.
_LATER_S: Final = 1.0


def _unknown_name(way: Way) -> Failure:
    """The failure of a way without an address to connect to."""
    step = Step.PROXY if isinstance(way, ProxiedWay) else Step.LOOK_UP
    return Failure(step, Kind.UNKNOWN_NAME)


@frozen
class Won:
    """The result of a race. ``failures``: of the ways that failed before."""

    way: Way
    took_s: float
    failures: dict[Way, Failure]


class Table(Protocol):
    """The table of local connections."""

    def clock(self) -> float: ...

    def recall(self) -> Remembered | None:
        """The way that was used last in this network. Called once the gateway's name is resolved."""

    def won(self, connection: LocalConnection, contestant: Contestant, won: Won) -> None:
        """The stream is to be relayed on from here; both transports are handed over to the relay."""

    def refused(self, connection: LocalConnection, failures: dict[Way, Failure]) -> None:
        """No way gets through. The connection is about to be closed."""

    def no_rtmp(self, connection: LocalConnection, protocol: WireProtocol) -> None:
        """The program does not speak RTMP. The connection is about to be closed."""

    def left(self, connection: LocalConnection) -> None:
        """The connection was lost before its stream was relayed. Also called after a refusal."""


@final
@implementer(IProtocol)
class LocalConnection:
    """``hello``: what the program has sent so far."""

    def __init__(
        self,
        reactor: Any,
        table: Table,
        gateway: RemoteGateway,
        ways: Sequence[Way],
        timeout_s: float,
    ) -> None:
        self._reactor = reactor
        self._table = table
        self._gateway = gateway
        self._ways = list(ways)
        self._timeout_s = timeout_s
        self._race: WayRace[Way, Failure] | None = None
        self._contestants: dict[Way, Contestant] = {}
        self._began_at = 0.0
        self._timer: Any = None
        self._is_over = self._is_greeted = False
        self.transport: Any = None
        self.hello = b""

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._timer = self._reactor.callLater(_FIRST_BYTES_S, self.close)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._is_over:
            return
        begun = len(self.hello)
        self.hello += data
        if not self._is_greeted:
            self._greet()
            return
        if begun < _HANDSHAKE_BYTES:
            for contestant in self._contestants.values():
                contestant.write(self.hello[begun:_HANDSHAKE_BYTES])
        if len(self.hello) > _MOST_HELLO_BYTES:
            self.transport.stopReading()

    def connectionLost(self, reason: TwistedFailure) -> None:
        self._end()
        self._table.left(self)

    # Called by the table

    @property
    def early(self) -> bytes:
        """What the program has sent behind its handshake; no way has got it yet."""
        return self.hello[_HANDSHAKE_BYTES:]

    def close(self) -> None:
        """Close the connection, and give up all ways."""
        self._end()
        self.transport.loseConnection()

    def hand_over(self, protocol: Any) -> None:
        """``protocol`` gets the transport, as a new connection."""
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    # Called by the contestants

    def answered(self, contestant: Contestant) -> None:
        race = self._race
        if race is None or self._is_over:
            return
        self._is_over = True
        for way in race.win(contestant.way):
            self._contestants[way].give_up()
        self._contestants.clear()
        self._set_timer(inf)
        took_s = self._table.clock() - self._began_at
        self._table.won(self, contestant, Won(contestant.way, took_s, race.failures))

    def failed(self, contestant: Contestant, failure: Failure) -> None:
        self._contestants.pop(contestant.way, None)
        if self._race is not None and not self._is_over:
            self._begin(self._race.fail(contestant.way, failure, self._table.clock()))

    # Internal

    def _greet(self) -> None:
        protocol = wire_protocol_of(self.hello)
        if protocol is None:
            return
        self._is_greeted = True
        self._timer.cancel()
        if protocol not in (WireProtocol.RTMP, WireProtocol.RTMPE):
            self._table.no_rtmp(self, protocol)
            self.close()
            return
        self._began_at = self._table.clock()
        Deferred.fromCoroutine(self._start()).addErrback(self._break)

    async def _start(self) -> None:
        await self._gateway.look_up()
        if self._is_over:
            return
        self._ways = [way for way in self._ways if self._gateway.knows(way)] or self._ways
        if not self._gateway.knows(self._ways[0]):
            self._refuse({way: _unknown_name(way) for way in self._ways})
            return
        ways, head_start_s = self._order(self._table.recall())
        now = self._table.clock()
        self._race = WayRace(ways, now, self._timeout_s, head_start_s)
        self._begin(self._race.expire(now))

    def _order(self, remembered: Remembered | None) -> tuple[list[Way], float]:
        """The ways with the remembered one first, and its head start."""
        found = [way for way in self._ways if remembered and str(way) == remembered.way]
        if remembered is None or not found:
            return self._ways, STAGGER_S
        head_start_s = min(max(STAGGER_S, _PATIENCE * remembered.took_s), _MOST_HEAD_START_S)
        return found + [way for way in self._ways if way not in found], head_start_s

    def _begin(self, ways: Sequence[Way]) -> None:
        """Begin these ways, and continue the race."""
        race = self._race
        if race is None:
            return
        left_s = max(0.0, race.end - self._table.clock()) + _LATER_S
        hello = self.hello[:_HANDSHAKE_BYTES]
        for way in ways:
            contestant = Contestant(*(self._reactor, self._gateway, self, way, hello, left_s))
            if way in race.running:
                self._contestants[way] = contestant
        if race.is_lost:
            self._refuse(race.failures)
        else:
            self._set_timer(race.deadline)

    def _expire(self) -> None:
        race, now = self._race, self._table.clock()
        if race is None:
            return
        if race.is_late(now):
            for contestant in list(self._contestants.values()):
                failure = contestant.unanswered
                contestant.give_up()
                self.failed(contestant, failure)
        else:
            self._begin(race.expire(now))

    def _refuse(self, failures: dict[Way, Failure]) -> None:
        if not self._is_over:
            self._is_over = True
            self._table.refused(self, failures)
            self.close()

    def _break(self, fault: TwistedFailure) -> None:
        """A fault of this program."""
        _log.failure("A local connection failed", failure=fault)
        self.close()

    def _end(self) -> None:
        self._is_over = True
        self._set_timer(inf)
        contestants, self._contestants = list(self._contestants.values()), {}
        for contestant in contestants:
            contestant.give_up()

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if deadline < inf:
            left_s = max(0.0, deadline - self._table.clock())
            self._timer = self._reactor.callLater(left_s, self._expire)
