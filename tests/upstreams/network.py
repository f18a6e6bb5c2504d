"""Servers on loopback, on a reactor that runs only inside a test's calls, with a resolver in memory."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol

from gateway.addresses import ServerAddress
from gateway.protocols.limits import Limits
from gateway.transport import EagerServer
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.connector import EagerConnector
from gateway.upstreams.dial import Server
from gateway.upstreams.group import Choice, Group
from gateway.upstreams.member import Member
from gateway.upstreams.names import Names as Resolving
from gateway.upstreams.pool import Pool
from gateway.upstreams.race import Race

LOOPBACK = "127.0.0.1"
# The longest reactor iteration, and the number of iterations after which a test has failed.
TURN_S = 0.05
TURNS = 100


def connects_in_memory() -> set[object]:
    """What has begun connects, and is still referred to or waits for the garbage collector."""
    return {each for each in gc.get_objects() if isinstance(each, Attempt | EagerConnector | Race)}


class Names:
    """Twisted's host name resolver, on a table instead of the network."""

    def __init__(self, hosts: dict[str, list[str]]) -> None:
        self.hosts = hosts

    def resolveHostName(self, receiver: Any, host: str, *_: Any, **__: Any) -> Any:
        receiver.resolutionBegan(None)
        for address in self.hosts.get(host, []):
            receiver.addressResolved(_Address(address))
        receiver.resolutionComplete()
        return receiver


class _Address:
    def __init__(self, host: str) -> None:
        self.host = host


class Network:
    """A separate reactor, servers that listen on it, and a clock for the pool."""

    def __init__(self, reactor: EPollReactor, stack: ExitStack) -> None:
        self.reactor = reactor
        self.names = Names({LOOPBACK: [LOOPBACK]})
        reactor.installNameResolver(self.names)
        self.now = 100.0
        self.resolving = Resolving(reactor, seconds=lambda: self.now)
        self._stack = stack
        self._dead: dict[ServerAddress, socket.socket] = {}

    def server(self) -> ServerAddress:
        """A server that accepts connections."""
        return self.listen(Factory.forProtocol(Protocol))

    def listen(
        self, factory: Factory, scheme: str = "rtmp", host: str = LOOPBACK, number: int = 0
    ) -> ServerAddress:
        """A server with connections of this factory, by default on a port that the system chooses."""
        port = self.reactor.listenTCP(number, factory, interface=host)
        port.transport = EagerServer
        self._stack.callback(self._close, port)
        return ServerAddress(host, port.getHost().port, scheme)

    def dead_server(self) -> ServerAddress:
        """A server that refuses connections: its port is bound but not listening."""
        taken = self._stack.enter_context(socket.socket())
        taken.bind((LOOPBACK, 0))
        address = ServerAddress(LOOPBACK, taken.getsockname()[1])
        self._dead[address] = taken
        return address

    def revive(self, address: ServerAddress) -> None:
        """The dead server listens."""
        self._dead[address].listen()

    def silent_server(self, host: str = LOOPBACK, number: int = 0) -> ServerAddress:
        """A server that does not answer: its accept queue is full."""
        full = self._stack.enter_context(socket.socket())
        full.bind((host, number))
        full.listen(0)
        for _ in range(3):
            waiting = self._stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        return ServerAddress(host, full.getsockname()[1])

    def pool(
        self,
        *addresses: ServerAddress,
        limits: Limits | None = None,
        choose: Choice = "round_robin",
    ) -> Pool:
        """A pool whose names are resolved."""
        members = [self.member(address) for address in addresses]
        return self.pool_of(Group(members, choose), limits=limits)

    def member(self, address: ServerAddress, proxy_protocol: str = "off", **options: Any) -> Member:
        return Member(Server(address, proxy_protocol=proxy_protocol), lambda: self.now, **options)

    def pool_of(self, *groups: Group, limits: Limits | None = None) -> Pool:
        """The same, of several groups."""
        pool = Pool(
            *(self.reactor, groups, limits or Limits(), lambda: self.now),
            names=self.resolving,
        )
        self.result_of(pool.look_up())
        return pool

    def connect(self, pool: Pool) -> str:
        """The name of the server that the next client is connected to."""
        client = Protocol()
        name: str = self.result_of(pool.connect(client))
        transport: Any = client.transport
        assert f"{transport.getPeer().host}:{transport.getPeer().port}" == name
        return name

    def at_end(self, call: Callable[[], object]) -> None:
        """Call it at the end of the test."""
        self._stack.callback(call)

    def until(self, condition: Callable[[], object]) -> None:
        """Run the reactor until the condition holds."""
        for _ in range(10 * TURNS):
            if condition():
                return
            self.reactor.iterate(TURN_S)
        raise AssertionError("the condition does not hold in time")

    def result_of(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        results: list[Any] = []
        errors: list[BaseException] = []
        Deferred.fromCoroutine(coroutine).addCallbacks(
            results.append, lambda failure: errors.append(failure.value)
        )
        for _ in range(TURNS):
            if results or errors:
                break
            self.reactor.iterate(TURN_S)
        if errors:
            raise errors[0]
        return results[0]

    def _close(self, port: Any) -> None:
        port.stopListening()
        self.reactor.iterate(0)
