"""Resolution of host names by the reactor's resolver."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


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
