"""Resolution of names, and when each is resolved again.

Addresses are those of the system's resolver, in a thread of the reactor, which knows /etc/hosts and all
other sources of nsswitch.conf, and sorts them by RFC 6724. It does not return the time to live, for which
the DNS is asked at the same time.

    a time to live        the name is resolved again after it; after 5 s at least and 300 s at most
    no time to live       (/etc/hosts, or another source): after 60 s
    no addresses          those known before stay in use; after 5 s, then 10, 20, 40, and every 60 s
    an IP address         never
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final, final

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.names.hosts import searchFileForAll
from twisted.python.filepath import FilePath

from gateway.addresses import is_ipv4, is_ipv6
from gateway.errors import ConfigurationError
from gateway.upstreams.dns import DNS, NoAnswer, Service

_log = Logger()

# How often ``look_up_due`` is called.
LOOK_S: Final = 1.0
# Shorter: records that must not be kept at all (0 s) cause questions all the time. Longer: a server whose
# address has changed gets no sessions for longer.
_LEAST_S: Final = 5.0
# Longer: a record that was wrong for a moment is used for longer.
_MOST_S: Final = 300.0
_UNKNOWN_S: Final = 60.0
_MOST_RETRY_S: Final = 60.0
# More addresses than servers have. Each can be an attempt to connect.
_MOST_ADDRESSES: Final = 32
_HOSTS: Final = "/etc/hosts"


@frozen
class Addresses:
    """The addresses of a host, for this number of seconds."""

    hosts: tuple[str, ...]
    valid_s: float


@final
class Names:
    """``dns``: None to ask the system's resolver only, so that services are unknown. ``seconds``: the
    time; by default the reactor's.
    """

    def __init__(
        self,
        reactor: Any,
        dns: DNS | None = None,
        seconds: Callable[[], float] | None = None,
        hosts_file: str = _HOSTS,
    ) -> None:
        self._reactor = reactor
        self._dns = dns
        self.seconds: Callable[[], float] = seconds or reactor.seconds
        self._hosts_file = hosts_file

    async def addresses(self, host: str) -> Addresses:
        """The addresses of a host; none if it is unknown."""
        if (is_ipv4(host) or is_ipv6(host)) and "%" not in host:
            return Addresses((host,), inf)
        valid_s = Deferred.fromCoroutine(self._valid_s(host))
        hosts = await addresses_of(self._reactor, host)
        return Addresses(tuple(hosts[:_MOST_ADDRESSES]), await valid_s)

    async def service(self, name: str) -> Service:
        """The servers of a service. Raises NoAnswer."""
        if self._dns is None:
            raise NoAnswer("the DNS is not used")
        found = await self._dns.service(name)
        return Service(found.targets, _bounded(found.valid_s))

    async def _valid_s(self, host: str) -> float:
        if (
            self._dns is None
            or "%" in host
            or searchFileForAll(FilePath(self._hosts_file), host.encode())
        ):
            return _UNKNOWN_S
        try:
            return _bounded(await self._dns.time_to_live(host))
        except NoAnswer:
            return _UNKNOWN_S


def _bounded(valid_s: float) -> float:
    return min(max(_LEAST_S, valid_s), _MOST_S)


class _Resolution:
    """Twisted's IResolutionReceiver: collects the addresses of a name."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: object) -> None:
        """Nothing to do: a resolution is never cancelled."""

    def addressResolved(self, address: Any) -> None:
        if address.host not in self.hosts:
            self.hosts.append(address.host)

    def resolutionComplete(self) -> None:
        self.done.callback(self.hosts)


async def addresses_of(reactor: Any, host: str) -> list[str]:
    """The addresses of a name, in the resolver's order; none if it is unknown."""
    receiver = _Resolution()
    reactor.nameResolver.resolveHostName(receiver, host)
    return await receiver.done


class Resolved:
    """Something that is known by resolving a name. A subclass has ``resolve``.

    ``role`` and ``name`` are those in log lines. ``failed_look_ups``: since the start.
    """

    def __init__(self, role: str, name: str) -> None:
        self.role = role
        self.name = name
        self.failed_look_ups = 0
        self._is_resolved = False
        self._due_at = 0.0
        self._retry_s = _LEAST_S
        self._is_running = False

    async def resolve(self, names: Names) -> float:
        """Resolve the name. Returns for how many seconds the result is valid.

        Raises ConfigurationError, and leaves all as it was.
        """
        raise NotImplementedError

    async def look_up(self, names: Names) -> None:
        """Resolve the name. Raises ConfigurationError if that fails."""
        self._is_running = True
        try:
            valid_s = await self.resolve(names)
        except ConfigurationError:
            self.failed_look_ups += 1
            self._due_at = names.seconds() + self._retry_s
            self._retry_s = min(2 * self._retry_s, _MOST_RETRY_S)
            raise
        finally:
            self._is_running = False
        self._retry_s = _LEAST_S
        self._is_resolved = True
        self._due_at = names.seconds() + valid_s

    @property
    def is_failing(self) -> bool:
        """Whether the last look-up has failed."""
        return self._retry_s > _LEAST_S

    def is_due(self, now: float) -> bool:
        """Whether its time is up, or it is not resolved yet, and it is not being resolved."""
        return not self._is_running and self._due_at <= now

    async def look_up_if_due(self, names: Names) -> bool:
        """Resolve the name if its time is up, or if it is not resolved yet. Returns whether that was done.

        Raises ConfigurationError if that fails, and nothing is known from before.
        """
        if not self.is_due(names.seconds()):
            return False
        was_failing = self.is_failing
        try:
            await self.look_up(names)
        except ConfigurationError as error:
            if not self._is_resolved:
                raise
            if not was_failing:
                _log.warn("{error}; the last addresses stay in use", error=error)
            return False
        if was_failing:
            _log.info("{role} {name}: the name is resolved again", role=self.role, name=self.name)
        return True


async def look_up_all(resolved: Iterable[Resolved], names: Names) -> None:
    """Resolve all names that are due, at the same time. Raises ConfigurationError for the first that
    cannot be resolved.
    """
    looked_up = [Deferred.fromCoroutine(each.look_up_if_due(names)) for each in resolved]
    for has_succeeded, result in await DeferredList(looked_up, consumeErrors=True):
        if not has_succeeded:
            failure: Any = result
            raise failure.value


async def look_up_due(resolved: Iterable[Resolved], names: Names) -> None:
    """Resolve all names whose time is up, at the same time, so that none waits for a slow one."""
    now = names.seconds()
    due = [Deferred.fromCoroutine(_look_up(each, names)) for each in resolved if each.is_due(now)]
    for has_succeeded, result in await DeferredList(due, consumeErrors=True):
        if not has_succeeded:
            failure: Any = result
            _log.failure("a name could not be resolved", failure)


async def _look_up(resolved: Resolved, names: Names) -> None:
    try:
        await resolved.look_up_if_due(names)
    except ConfigurationError as error:
        _log.warn("{error}", error=error)
