"""One way of a race: its connection, the local program's handshake on it, and the server's answer.

It ends with one call to its owner: the server's S0 and S1 have arrived, or the way has failed. What the
server has sent until then is kept, and belongs to the local program if this way wins.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, final

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from gateway.client.causes import failure_of, failure_of_answer
from gateway.client.proxied_ways import ProxiedWay
from gateway.client.remote_gateway import Opening, RemoteGateway
from gateway.port_test.observations import Failure, Kind, Step
from gateway.port_test.ways import Way
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.upstreams.race import Stage

# S0 and S1, which are as long in RTMPE.
_ANSWER_BYTES: Final = 1 + BLOCK_BYTES
# How long a connection that is given up is read, so that the gateway gets the end of the stream.
_LINGER_S: Final = 2.0

_STEPS: Final = {Stage.CONNECT: Step.CONNECT, Stage.TLS: Step.TLS, Stage.OPEN: Step.OPEN}


class Owner(Protocol):
    """The local connection whose race it is."""

    def answered(self, contestant: Contestant) -> None: ...

    def failed(self, contestant: Contestant, failure: Failure) -> None: ...


@final
@implementer(IProtocol)
class Contestant:
    """``received``: the server's bytes. It begins to connect when it is made."""

    def __init__(
        self,
        reactor: Any,
        gateway: RemoteGateway,
        owner: Owner,
        way: Way,
        hello: bytes,
        left_s: float,
    ) -> None:
        self._reactor = reactor
        self._owner: Owner | None = owner
        self._hello = hello
        self._linger: Any = None
        self.way = way
        self.transport: Any = None
        self.received = b""
        self._opening: Opening = gateway.open(way, self, left_s)
        self._opening.done.addErrback(self._fail_to_connect)

    @property
    def unanswered(self) -> Failure:
        """The failure if the time for the race has passed. It has not been given up."""
        if self.transport is not None:
            step = Step.HANDSHAKE
        elif isinstance(self.way, ProxiedWay):
            step = Step.PROXY
        else:
            step = _STEPS[self._opening.stage]
        return Failure(step, Kind.NO_ANSWER)

    # The owner calls

    def write(self, data: bytes) -> None:
        """Send more of the local program's handshake."""
        self._hello += data
        if self.transport is not None:
            self.transport.write(data)

    def hand_over(self, protocol: Any) -> None:
        """This way has won: ``protocol`` gets its transport, as a new connection."""
        self._owner = None
        transport, self.transport = self.transport, None
        transport.protocol = protocol
        protocol.makeConnection(transport)

    def give_up(self) -> None:
        """Close the connection, after what was written. A tunnel's session is closed."""
        self._owner = None
        if self.transport is None:
            self._opening.cancel()
        elif self.way.protocol.tunnelled:
            self.transport.abortConnection()
        else:
            self._linger = self._reactor.callLater(_LINGER_S, self.transport.abortConnection)
            self.transport.loseWriteConnection()

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        if self._owner is None:
            transport.abortConnection()
        else:
            transport.write(self._hello)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:
            return
        self.received += data
        failure = failure_of_answer(self._hello, self.received)
        if failure is not None:
            self._fail(failure)
        elif len(self.received) >= _ANSWER_BYTES:
            owner.answered(self)

    def connectionLost(self, reason: TwistedFailure) -> None:
        self.transport = None
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._fail(Failure(Step.HANDSHAKE, Kind.CLOSED))

    def _fail_to_connect(self, reason: TwistedFailure) -> None:
        self._fail(failure_of(reason.value))

    def _fail(self, failure: Failure) -> None:
        owner, self._owner = self._owner, None
        if owner is None:
            return
        if self.transport is not None:
            self.transport.abortConnection()
        owner.failed(self, failure)
