"""The reactor's resolver of names: the system's, in threads that end with the process.

The threads are not those of the reactor's pool: a look-up cannot be interrupted, and the program would wait
for its end when it stops, for 10 s and more if no name server answers. Look-ups of one name at about the
same time share a thread.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import Thread
from typing import Any, Final, final

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

# A look-up that began earlier is not shared: it may still wait for the name server of the network before.
# So a name has a thread for each second that the system takes.
_SHARED_S: Final = 1.0

_Address = IPv4Address | IPv6Address


@define(eq=False)
class _LookUp:
    began_at: float
    receivers: list[Any] = field(factory=list)


@final
@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Without effect: a look-up cannot be interrupted."""


@final
@implementer(IHostnameResolver)
class NameResolver:
    """``getaddrinfo``: that of the module ``socket``; called in a thread."""

    def __init__(
        self, reactor: Any, getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo
    ) -> None:
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        # The last one of each name; done ones are removed.
        self._running: dict[str, _LookUp] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Of IHostnameResolver. The receiver gets the addresses of streams, of both families."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        now = float(self._reactor.seconds())
        running = self._running.get(hostName)
        if running is None or now - running.began_at >= _SHARED_S:
            running = self._running[hostName] = _LookUp(now)
            Thread(target=self._look_up, args=(hostName, running), daemon=True).start()
        running.receivers.append(resolutionReceiver)
        return resolution

    def _look_up(self, name: str, running: _LookUp) -> None:
        """In a thread."""
        try:
            answers = self._getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answers = []
        self._reactor.callFromThread(self._end, name, running, answers)

    def _end(self, name: str, running: _LookUp, answers: list[Any]) -> None:
        if self._running.get(name) is running:
            del self._running[name]
        addresses = [_address_of(family, place) for family, *_, place in answers]
        for receiver in running.receivers:
            for address in addresses:
                receiver.addressResolved(address)
            receiver.resolutionComplete()


def _address_of(family: int, place: tuple[Any, ...]) -> _Address:
    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
    return kind("TCP", place[0], place[1])
