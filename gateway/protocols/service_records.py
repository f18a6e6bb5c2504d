"""SRV records (RFC 2782): the servers of a service, with their priorities and weights.

The records come from the network: those that cannot be used are left out, and their number is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from attrs import evolve, frozen

# More servers than a group of media servers has. Each is resolved, checked, and has its own metrics.
MOST_TARGETS: Final = 32
# "." as the only target: the domain does not offer the service.
_NONE: Final = ""


@frozen(order=True)
class Target:
    """A server of a service. ``priority``: the servers with the lowest one are used first. ``weight``: its
    share among those with the same priority; it can be 0.
    """

    priority: int
    host: str
    port: int
    weight: int


def usable(records: Iterable[Target], is_host: Callable[[str], bool]) -> tuple[Target, ...]:
    """The targets to use, in an order that does not depend on that of the records, as resolvers vary it.

    Priorities are replaced by their ranks, from 0. A weight of 0 becomes 1, the smallest share: RFC 2782
    has such servers selected rarely, or equally often if all have it.
    """
    found: dict[tuple[str, int], Target] = {}
    for record in sorted(records):
        host = record.host.rstrip(".").lower()
        if host != _NONE and record.port and is_host(host):
            # Of two records for one server, the one with the better priority.
            found.setdefault((host, record.port), evolve(record, host=host))
    kept = list(found.values())[:MOST_TARGETS]
    ranks = {priority: rank for rank, priority in enumerate(sorted({t.priority for t in kept}))}
    return tuple(
        evolve(target, priority=ranks[target.priority], weight=max(1, target.weight))
        for target in kept
    )
