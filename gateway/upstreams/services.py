"""The servers of SRV records, as members of a group that come and go with the records.

    priority    servers with a higher one are backups of those with a lower one, in several steps
    weight      the server's weight

A server that has left gets no new sessions; those that it has continue. It is known until the last one has
ended, which can be after its connection, and has its state again if it returns before. Each worker looks
the records up by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from twisted.logger import Logger

from gateway.addresses import ServerAddress
from gateway.errors import ConfigurationError
from gateway.protocols.service_records import Target
from gateway.upstreams.dns import NoAnswer
from gateway.upstreams.member import Member
from gateway.upstreams.names import Names, Resolved, look_up_due

_log = Logger()


@final
class Service(Resolved):
    """``address``: that of the service. ``make_member``: of a server's address. ``forgotten`` is called
    with the name of a server that has left, after its last session. ``has_sessions``: whether sessions of
    a server without connections still have data for their clients.
    """

    def __init__(
        self,
        address: ServerAddress,
        make_member: Callable[[ServerAddress], Member],
        forgotten: Callable[[str], object] = lambda _: None,
        has_sessions: Callable[[str], bool] = lambda _: False,
    ) -> None:
        super().__init__("upstream", str(address))
        self.address = address
        # In the order of their priorities and names, so that all workers have the same order.
        self.members: list[Member] = []
        self._make_member = make_member
        self._forgotten = forgotten
        self._has_sessions = has_sessions
        # All members, and those that have left but still have sessions.
        self._known: dict[str, Member] = {}

    def knows(self, name: str) -> bool:
        """Whether it has this server, or sessions there."""
        return name in self._known

    async def resolve(self, names: Names) -> float:
        try:
            found = await names.service(self.address.host)
        except NoAnswer as error:
            raise ConfigurationError(
                f"{self.role} {self.name}: no SRV records: {error}; check the name, and this machine's"
                " resolver"
            ) from None
        members = [self._member(target) for target in found.targets]
        self._known.update((member.name, member) for member in members)
        await look_up_due([member.server for member in members], names)
        usable = [member for member in members if member.server.hosts]
        if not usable:
            self._forget_unused([*self.members, *members])
            raise ConfigurationError(
                f"{self.role} {self.name}: none of the servers in its SRV records has an address; check"
                " the records"
            )
        self._use(usable, members)
        return found.valid_s

    def _member(self, target: Target) -> Member:
        """The member for a target, which has its sessions and state if it was known before."""
        address = ServerAddress(target.host, target.port, self.address.scheme)
        member = self._known.get(str(address)) or self._make_member(address)
        member.weight, member.priority = target.weight, target.priority
        member.service = self
        return member

    def _use(self, usable: list[Member], current: list[Member]) -> None:
        before, now = _names(self.members), _names(usable)
        if before and before != now:
            _log.info(
                "upstream {service}: its servers are now {servers}",
                service=self.name,
                servers=", ".join(now),
            )
        self.members = usable
        self._forget_unused(current)

    def _forget_unused(self, current: list[Member]) -> None:
        for name, member in [*self._known.items()]:
            is_used = member in current or member.count.own or self._has_sessions(name)
            if not is_used:
                del self._known[name]
                self._forgotten(name)


def _names(members: list[Member]) -> list[str]:
    return [member.name for member in members]
