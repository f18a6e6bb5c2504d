"""The pool of upstream servers, with failover to the next server.

A session gets a server of the first group that has one; backups follow the group's other servers. Servers
that are avoided (``member``) are tried when no other is left, because a check can be wrong, and a refused
session is lost for certain. Those that the operator has drained or set down get none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any, Final, Protocol, final

from attrs import field, frozen
from twisted.internet.error import ConnectError, TCPTimedOutError
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from gateway.errors import (
    ResourcesExhausted,
    ServiceUnavailable,
    UpstreamFull,
    UpstreamUnavailable,
)
from gateway.logs import debugging
from gateway.protocols.limits import Limits
from gateway.upstreams.dial import Server, connect, warn_exhausted
from gateway.upstreams.group import Group, HashBy
from gateway.upstreams.member import Member
from gateway.upstreams.names import Names, look_up_all, look_up_due
from gateway.upstreams.rtmpe_transport import HandshakeFailed
from gateway.upstreams.services import Service

_log = Logger()


class OpeningFailed(HandshakeFailed):
    """A server has made the handshake, and has not answered the client's connect.

    That can be the client's fault, so the server is not avoided for it.
    """


# Awaited after each connect, with the server's name.
Ready = Callable[[str], Awaitable[None]]

# The reason that is counted for a failed connect; "other" for any other error.
_REASONS: Final[Mapping[type, str]] = {
    ConnectRefused: "refused",
    ConnectTimedOut: "timeout",
    TCPTimedOutError: "timeout",
    HandshakeFailed: "handshake",
    OpeningFailed: "at_birth",
}


class Telemetry(Protocol):
    """Observer of connection attempts."""

    def connected(self, server: str, seconds: float) -> None: ...

    def failed(self, server: str, reason: str) -> None: ...


@frozen
class Health:
    """The health of a server. ``up``: it accepted the last connection, or has had none yet. ``due``: it is
    not tried last. ``tried_at``: when it was last connected to, by the clock; 0.0 for never. ``drained``:
    whether the operator has new sessions kept from it. ``state``: as ``Member.state``. ``sessions``:
    those of this worker. ``group``: the name of its group, and how many are ``waiting`` in its queue.
    ``addresses``: its IP addresses. ``failed_look_ups``: of its name, and ``stale``: whether the last one
    has failed. ``service``: the name of the SRV records that it is from, or empty. ``named_only``: whether
    it gets only what is sent to its group by name, such as streams that are mirrored.
    """

    name: str
    up: bool
    due: bool
    tried_at: float
    drained: bool
    state: str
    weight: int
    sessions: int
    group: str
    waiting: int
    addresses: Sequence[str]
    failed_look_ups: int
    stale: bool
    service: str
    named_only: bool


@final
class Pool:
    """``reactor`` is Twisted's; ``clock`` returns monotonic seconds. ``names``: None for one that asks the
    system's resolver only.
    """

    def __init__(
        self,
        reactor: Any,
        groups: Sequence[Group],
        limits: Limits,
        clock: Callable[[], float],
        telemetry: Telemetry | None = None,
        names: Names | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._reactor = reactor
        self._groups = groups
        self._names = names or Names(reactor, seconds=clock)
        self._services = [
            source for group in groups for source in group.sources if isinstance(source, Service)
        ]
        # What the operator has asked for, for servers of services that appear later.
        self._closed: tuple[Set[str], Set[str]] = frozenset(), frozenset()
        self._limits = limits
        self._clock = clock

    @property
    def members(self) -> list[Member]:
        """The members of all groups."""
        return [member for group in self._groups for member in group.members]

    @property
    def servers(self) -> list[Server]:
        """The servers of all groups."""
        return [member.server for member in self.members]

    async def look_up(self) -> None:
        """Resolve all names. Raises ConfigurationError for the first that is unknown."""
        await look_up_all(self._services, self._names)
        self._update()
        await look_up_all(self.servers, self._names)

    async def look_up_again(self) -> None:
        """Resolve the names whose time is up. One that cannot be resolved keeps what it had."""
        if self._services:
            await look_up_due(self._services, self._names)
            self._update()
        await look_up_due(self.servers, self._names)

    def _update(self) -> None:
        """Use the servers that the services have now."""
        for group in self._groups:
            group.update()
        self.close_servers(*self._closed)

    async def connect(
        self,
        protocol: IProtocol,
        client: str = "",
        upstreams: Sequence[str] = (),
        key: str = "",
        is_ready: Ready | None = None,
        stream_key: str = "",
    ) -> str:
        """Connect ``protocol`` to the first server that accepts; returns the server's name.

        ``client``: the IP address of the client, or empty. ``upstreams``: the names of the groups to use,
        in this order; empty for all. ``key``: the application, if it is known, for servers that are chosen
        by a hash; without it, they are chosen by the client's address. ``stream_key``: application and
        stream, if they are known, for those that are chosen by them. ``is_ready``: awaited after each
        connect; if it raises HandshakeFailed, the server has failed too.

        Raises UpstreamUnavailable if no server accepted in time, UpstreamFull if all have as many sessions
        as they may, and ResourcesExhausted if local resources are used up.
        """
        refusal: ServiceUnavailable = UpstreamUnavailable(
            "no upstream server accepted the connection"
        )
        key = key or client
        request = _Request(
            self._groups_of(upstreams),
            {"application": key, "stream": stream_key or key},
            self._clock() + self._limits.open_s,
        )
        while (member := await self._take(request)) is not None:
            try:
                await self._dial(member, protocol, client, is_ready)
            except ConnectError as error:
                self._failed(member, error)
            except ResourcesExhausted as error:
                refusal = error
                warn_exhausted(error, member.server)
            else:
                return member.name
        raise refusal

    async def _take(self, request: _Request) -> Member | None:
        """Take the server to try next, and count the session for it; None if no server is left."""
        has_waited = False
        while (found := request.find()) is not None and self._clock() < request.deadline:
            group, members = found
            if members and (has_waited or group.queue is None or not group.queue.is_claimed):
                member = group.choose(members, request.keys[group.hash_by])
                member.count.add(1)
                request.tried.add(member)
                return member
            if group.queue is None:
                raise UpstreamFull("all servers have as many sessions as they may")
            await group.queue.wait(request.has_place, request.deadline)
            has_waited = True
        return None

    async def _dial(
        self, member: Member, protocol: IProtocol, client: str, is_ready: Ready | None
    ) -> None:
        """Connect to the server. Raises ConnectError, ResourcesExhausted."""
        began = self._clock()
        try:
            await connect(
                self._reactor,
                member.server,
                protocol,
                self._limits.upstream_connect_s,
                self._limits.vanished_s,
                client,
                member.end_session,
            )
        except BaseException:
            member.count.add(-1)
            raise
        if is_ready is not None:
            await is_ready(member.name)
        self._connected(member, self._clock() - began)

    def note_checks(self, states: Mapping[str, bool]) -> None:
        """The results of health checks: whether each server is up, by its name. Others are as before."""
        for member in self.members:
            if member.name in states:
                member.note_checks(states[member.name])

    def close_servers(self, drained: Set[str], down: Set[str]) -> None:
        """Keep new sessions from these servers only, as the operator asked."""
        self._closed = drained, down
        for member in self.members:
            member.set_by_operator(member.name in drained, member.name in down)

    def health(self) -> list[Health]:
        """The health of each server."""
        return [
            Health(
                *(each.name, each.is_up, not each.is_avoided, each.tried_at, each.is_drained),
                *(each.state, each.weight, each.count.own),
                *(group.name, 0 if group.queue is None else len(group.queue)),
                addresses=each.server.hosts,
                failed_look_ups=each.failed_look_ups,
                stale=each.is_stale,
                service="" if each.service is None else each.service.name,
                named_only=group.is_named_only,
            )
            for group in self._groups
            for each in group.members
        ]

    def _groups_of(self, upstreams: Sequence[str]) -> Sequence[Group]:
        if not upstreams:
            return [group for group in self._groups if not group.is_named_only]
        return [group for name in upstreams for group in self._groups if group.name == name]

    def _connected(self, member: Member, seconds: float) -> None:
        if self._telemetry is not None:
            self._telemetry.connected(member.name, seconds)
        if debugging.enabled:
            _log.debug(
                "upstream {server} connected in {seconds:.4f} s",
                server=member.name,
                seconds=seconds,
            )
        if member.connected():
            _log.info("upstream {server} accepts connections again", server=member.name)

    def _failed(self, member: Member, error: ConnectError) -> None:
        """Count the failure against the server."""
        if self._telemetry is not None:
            self._telemetry.failed(member.name, _REASONS.get(type(error), "other"))
        if debugging.enabled:
            _log.debug("upstream {server} failed: {error}", server=member.name, error=error)
        if isinstance(error, OpeningFailed):
            return
        # One line for each outage, not for each client.
        if member.failed():
            _log.warn("upstream {server} is down: {error}", server=member.name, error=error)


@frozen
class _Request:
    """A session that is opened: the groups that it may use, and the servers that have failed for it."""

    groups: Sequence[Group]
    keys: Mapping[HashBy, str]
    deadline: float
    tried: set[Member] = field(factory=set)

    def find(self) -> tuple[Group, list[Member]] | None:
        """The group in which it gets a server, and those of its members that have a place; None if no
        server is left to be tried.
        """
        for is_avoided in (False, True):
            for group in self.groups:
                for tier in group.tiers:
                    members = [
                        member
                        for member in tier
                        if member not in self.tried
                        and not member.is_closed
                        and member.is_avoided is is_avoided
                    ]
                    if members:
                        return group, group.with_place(members, self.keys[group.hash_by])
        return None

    def has_place(self) -> bool:
        """Whether it need not wait: there is a place, or no server is left."""
        found = self.find()
        return found is None or bool(found[1])
