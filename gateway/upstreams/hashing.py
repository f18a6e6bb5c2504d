"""Consistent hashing with bounded loads, without state: equal keys and servers give equal orders.

It is weighted rendezvous hashing: each server draws a number from the key and its own name, and the servers
are ordered by these. A server that joins or leaves changes no order among the others, so it moves the keys
that it gains or loses and no others: on average its share of the weights.

With a *balance factor* c, no server gets more than c times its share of the sessions, rounded up, and a key
is given to the first server of its order below that (Mirrokni, Thorup and Zadimoghaddam, 2016, "Consistent
Hashing with Bounded Loads").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import ceil, log
from typing import Protocol, TypeVar

_DIGEST_BYTES = 8
# For a draw between 0 and 1, both excluded.
_DRAWS = 1 << 8 * _DIGEST_BYTES


class Loaded(Protocol):
    """A server with its weight, and the number of its sessions."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> int: ...

    @property
    def sessions(self) -> int: ...


_Server = TypeVar("_Server", bound=Loaded)


def order(key: str, servers: Iterable[_Server]) -> list[_Server]:
    """The servers in the order in which ``key`` prefers them."""
    prefix = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    return sorted(servers, key=lambda server: _distance(prefix, server))


def below_bound(ordered: Sequence[_Server], factor: float) -> list[_Server]:
    """Those that may get one more session, in the same order. There is at least one if ``factor`` >= 1."""
    weights = sum(server.weight for server in ordered)
    sessions = 1 + sum(server.sessions for server in ordered)
    return [
        server
        for server in ordered
        if server.sessions < ceil(factor * sessions * server.weight / weights)
    ]


def _distance(prefix: bytes, server: Loaded) -> float:
    """A draw from the exponential distribution with the weight as its rate. The least of several is each
    server's with a probability in proportion to its weight.
    """
    digest = blake2b(prefix + server.name.encode(), digest_size=_DIGEST_BYTES).digest()
    return -log((int.from_bytes(digest, "big") + 1) / (_DRAWS + 1)) / server.weight
