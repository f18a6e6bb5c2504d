"""Clients that an address of the server has not answered.

An address can be silent because it leads nowhere, or because of the datagram: a server does not answer
garbage, and garbage can have a forged source. So silence counts for the same client only, whose next
session uses another address. It counts for all clients once that client has proved its address in such a
session. So the most that a client can do is to make others use an address of the server that answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from gateway.protocols.udp_flows import Address


@final
class UnansweredClients:
    """``most``: how many are remembered, of those that came last."""

    def __init__(self, most: int) -> None:
        self._most = most
        # The addresses of the server that were silent, by the client's.
        self._silent: dict[Address, tuple[str, ...]] = {}

    def note(self, client: Address, host: str) -> None:
        """The client's session has ended without an answer from ``host``."""
        before = self._silent.pop(client, ())
        self._silent[client] = before if host in before else (*before, host)
        if len(self._silent) > self._most:
            del self._silent[next(iter(self._silent))]

    def order(self, client: Address, hosts: Sequence[str]) -> list[str]:
        """``hosts`` for the client's next session, with those that were silent last."""
        return sorted(hosts, key=self._silent.get(client, ()).__contains__)

    def proven(self, client: Address, host: str) -> list[str]:
        """``host`` has answered the client, which has proved its address. Returns those that were silent
        to it, which are forgotten.
        """
        return [each for each in self._silent.pop(client, ()) if each != host]
