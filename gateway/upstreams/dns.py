"""Questions to the DNS, which the system's resolver does not answer: SRV records, and times to live.

Twisted's resolver asks one server at a time, as resolv.conf has them, which is read for each look-up. It
accepts answers only from the server that was asked, and asks again by TCP if an answer is truncated. A
server that fails is followed by the next. All of it has one deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar, final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.names import client, dns
from twisted.names.error import DNSNameError, DomainError

from gateway.addresses import is_host
from gateway.protocols.resolv_conf import ResolverSettings, parse_resolver_settings
from gateway.protocols.service_records import Target, usable

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
# One look-up, of all names that the search list makes. Longer: startup waits longer for a dead server.
_LOOK_UP_S: Final = 10.0
# For a time to live, without which a name can be used as well.
_TIME_TO_LIVE_S: Final = 3.0
# For each name server: then the next one is asked, and the first one again.
_TIMEOUTS_S: Final = (1, 3)

_Result = TypeVar("_Result")


class NoAnswer(Exception):
    """The DNS has no such records, or does not answer; the text is the cause."""


@frozen
class Service:
    """The servers of a service, for this number of seconds."""

    targets: tuple[Target, ...]
    valid_s: float


def read_settings() -> ResolverSettings:
    """The system's, or the defaults if it has none."""
    try:
        return parse_resolver_settings(_RESOLV_CONF.read_text("utf-8", "replace"))
    except OSError:
        return ResolverSettings()


@final
class DNS:
    """``settings``: called for each look-up, which has ``look_up_s`` seconds."""

    def __init__(
        self,
        reactor: Any,
        settings: Callable[[], ResolverSettings] = read_settings,
        look_up_s: float = _LOOK_UP_S,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._look_up_s = look_up_s

    async def service(self, name: str) -> Service:
        """The servers in the SRV records of ``name``. Raises NoAnswer if there is none."""

        async def ask(asked: _Questions) -> Service:
            answers = await asked.first((dns.SRV,))
            records = [each for each in answers if each.type == dns.SRV]
            targets = usable(map(_target, records), is_host)
            if not targets:
                raise NoAnswer("its SRV records name no server")
            return Service(targets, _shortest(answers))

        return await self._within(self._look_up_s, name, ask)

    async def time_to_live(self, host: str) -> float:
        """For how many seconds the A and AAAA records of ``host`` are valid. Raises NoAnswer."""

        async def ask(asked: _Questions) -> float:
            return _shortest(await asked.first((dns.A, dns.AAAA)))

        return await self._within(min(self._look_up_s, _TIME_TO_LIVE_S), host, ask)

    async def _within(
        self, seconds: float, name: str, ask: Callable[[_Questions], Awaitable[_Result]]
    ) -> _Result:
        questions = _Questions(self._reactor, self._settings(), name)
        result = Deferred.fromCoroutine(_awaiting(ask(questions)))
        result.addTimeout(seconds, self._reactor)
        try:
            return await result
        except DeferredTimeout:
            raise NoAnswer("no name server answers in time") from None
        finally:
            questions.close()


async def _awaiting(result: Awaitable[_Result]) -> _Result:
    return await result


@final
class _Questions:
    """The questions of one look-up."""

    def __init__(self, reactor: Any, settings: ResolverSettings, name: str) -> None:
        # A domain of the search list may be malformed, and cannot be sent then.
        self._names = list(filter(is_host, settings.candidates(name)))
        self._resolvers = [_Resolver(reactor, server) for server in settings.servers]

    async def first(self, kinds: Iterable[int]) -> list[Any]:
        """The records of the first of the names that has any of these kinds. Raises NoAnswer."""
        failure = NoAnswer("the DNS does not have the name")
        for name in self._names:
            found: list[Any] = []
            for kind in kinds:
                try:
                    found += await self._records(name, kind)
                except NoAnswer as error:
                    failure = error
            if any(each.type in kinds for each in found):
                return found
        raise failure

    async def _records(self, name: str, kind: int) -> list[Any]:
        """The records in the answer. Raises NoAnswer."""
        cause = "no name server answers"
        for timeout_s in _TIMEOUTS_S:
            for resolver in self._resolvers:
                try:
                    answers = await resolver.answers(name, kind, timeout_s)
                except DNSNameError:
                    raise NoAnswer("the DNS does not have the name") from None
                except DomainError as error:
                    cause = f"the name servers fail: {type(error).__name__}"
                except (DeferredTimeout, ConnectError, ConnectionClosed, OSError):
                    cause = "no name server answers"
                else:
                    return answers
        raise NoAnswer(cause)

    def close(self) -> None:
        for resolver in self._resolvers:
            resolver.close()


class _Resolver(client.Resolver):
    """Asks one name server, and leaves no connection to it open."""

    def __init__(self, reactor: Any, server: tuple[str, int]) -> None:
        super().__init__(servers=[server], reactor=reactor)  # type: ignore[no-untyped-call]
        self._is_closed = False

    async def answers(self, name: str, kind: int, timeout_s: int) -> list[Any]:
        """The records in the answer. Raises DomainError, and the errors of connects and timeouts."""
        question = dns.Query(name, kind)
        answers, _, _ = await self.query(question, (timeout_s,))  # type: ignore[no-untyped-call]
        return list(answers)

    def connectionMade(self, protocol: Any) -> None:
        super().connectionMade(protocol)  # type: ignore[no-untyped-call]
        if self._is_closed:
            protocol.transport.abortConnection()

    def close(self) -> None:
        self._is_closed = True
        for connection in self.connections:
            connection.transport.abortConnection()


def _target(record: Any) -> Target:
    found = record.payload
    host = found.target.name.decode("ascii", "replace")
    return Target(found.priority, host, found.port, found.weight)


def _shortest(records: Iterable[Any]) -> float:
    """The shortest time to live, which is that of the whole answer."""
    return min((float(each.ttl) for each in records), default=inf)
