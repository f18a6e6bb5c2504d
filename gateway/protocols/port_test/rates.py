"""Rates of the port test: token buckets for each client address and for all together, in a bounded table.

Addresses of IPv6 are counted by their /64 network, which one client usually has for itself. If the table is
full, the address that was used longest ago is forgotten; the bucket of all clients limits those who change
their addresses.
"""

from __future__ import annotations

from typing import Final, final

from attrs import define, frozen

from gateway.protocols.networks import client_network

# About 200 bytes each.
_ADDRESSES: Final = 2048


@frozen
class Rate:
    """So many at once, and so many a second in the long run."""

    burst: float
    per_s: float


@define
class _Bucket:
    tokens: float
    filled_at: float

    def fill(self, rate: Rate, now: float) -> None:
        self.tokens = min(rate.burst, self.tokens + (now - self.filled_at) * rate.per_s)
        self.filled_at = now


@final
class Rates:
    """``each``: the rate of one address; ``all_``: of all together."""

    def __init__(self, each: Rate, all_: Rate, addresses: int = _ADDRESSES) -> None:
        self._each = each
        self._all = all_
        self._most = addresses
        self._of_all: _Bucket | None = None
        # The buckets by address, in the order of their last use.
        self._buckets: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str, cost: float, now: float) -> bool:
        """Whether the address may use ``cost`` now; then it is counted."""
        key = client_network(address)
        bucket = self._buckets.pop(key, None) or _Bucket(self._each.burst, now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        of_all = self._of_all = self._of_all or _Bucket(self._all.burst, now)
        bucket.fill(self._each, now)
        of_all.fill(self._all, now)
        if cost > bucket.tokens or cost > of_all.tokens:
            return False
        bucket.tokens -= cost
        of_all.tokens -= cost
        return True
