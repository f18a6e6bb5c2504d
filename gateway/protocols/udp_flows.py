"""Flows of relayed datagrams: one for each client address and port. Nothing in a datagram is read.

Datagrams with a forged source could have the gateway send a server's replies to a victim. Rules:

- Only an address that has sent a datagram gets any. Until it is *proven*, it gets at most
  ``AMPLIFICATION`` times the bytes that were received from it (RFC 9000, 8.1, has this rule for QUIC).
- An address is proven by a datagram that arrives after one of the server was sent to it, and that differs
  from the one before. A repeated first datagram, as in a flood, proves nothing. If the protocol is not
  read, there is no better evidence: a forger that knows the rule can send two different datagrams. So two
  more rules limit what a victim gets then.
- A proven address gets at most ``UNANSWERED_BYTES`` between two of its own datagrams. RTMFP acknowledges
  every second packet (RFC 7016, 3.6.3).
- A flow ends if its client is silent for ``idle_s``, even if the server is not.

If all places are taken, or all of one client, the oldest unproven flow among them loses its place after
``LEAST_S``, so that forged sources do not keep clients out for long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, final

from attrs import frozen

from gateway.protocols.networks import client_network
from gateway.protocols.reasons import EndReason

# Host and port, and for IPv6 flow information and scope, as sockets have them.
Address = tuple[Any, ...]

AMPLIFICATION: Final = 3
# More than a client leaves unacknowledged: the bandwidth-delay product of 20 Mbit/s and 400 ms. With less,
# a fast stream on a long path would be cut; with more, a victim would get more.
UNANSWERED_BYTES: Final = 1024 * 1024
# Clients answer within a round trip.
LEAST_S: Final = 1.0


class Drop(Enum):
    """Why a datagram is dropped. The value is the label in metrics."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    DENIED = "denied"
    # No place for a new flow: in all, for one client, or in the whole gateway.
    FULL = "full"
    CLIENT_FULL = "client_full"
    REFUSED = "refused"
    # Over the client's credit.
    UNPROVEN = "unproven"
    UNANSWERED = "unanswered"
    # A full socket buffer, or another error of the system.
    NOT_SENT = "not_sent"


@frozen
class FlowLimits:
    """``flows``: in all. ``flows_per_client``: for one IPv4 address or IPv6 /64. ``idle_s``: how long a
    client may be silent. ``proof_s``: how long it may be unproven.
    """

    flows: int
    flows_per_client: int
    datagram_bytes: int
    idle_s: float
    proof_s: float


@final
class Flow:
    """``client``: what ``flows_per_client`` counts. ``credit``: bytes that may be sent to the client now.
    ``ended``: the end reason, None while the flow is active.
    """

    __slots__ = (
        "address",
        "bytes_down",
        "bytes_up",
        "client",
        "credit",
        "ended",
        "heard_at",
        "is_proven",
        "last_up",
        "opened_at",
    )

    def __init__(self, address: Address, client: str, now: float) -> None:
        self.address = address
        self.client = client
        self.opened_at = self.heard_at = now
        self.bytes_up = self.bytes_down = 0
        self.credit = 0
        self.is_proven = False
        # The last datagram of an unproven client.
        self.last_up = b""
        self.ended: EndReason | None = None


@final
class Counts:
    """Datagrams and bytes that were relayed in one direction."""

    __slots__ = ("bytes", "datagrams")

    def __init__(self) -> None:
        self.datagrams = self.bytes = 0


@final
class FlowTable:
    """The flows of one listener. ``permits``: whether an IP address may have flows.

    Datagrams that a call returns no ``Drop`` for must be sent on; ``not_sent`` follows if that fails.
    """

    def __init__(self, limits: FlowLimits, permits: Callable[[str], bool]) -> None:
        self._limits = limits
        self._permits = permits
        self._flows: dict[Address, Flow] = {}
        # Unproven flows, in the order of their opening.
        self._unproven: dict[Address, Flow] = {}
        # All flows by ``Flow.client``, in the order of their opening.
        self._of_client: dict[str, dict[Address, Flow]] = {}
        self.up = Counts()
        self.down = Counts()
        self.drops: Counter[Drop] = Counter(dict.fromkeys(Drop, 0))
        # Ended flows that the caller has to close, and to remove from here.
        self.displaced: list[Flow] = []

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(tuple(self._flows.values()))

    @property
    def unproven(self) -> int:
        """The number of flows whose client is not proven."""
        return len(self._unproven)

    def open(self, address: Address, size: int, now: float) -> Flow | Drop:
        """A flow for an address without one, which has sent a datagram of ``size`` bytes. The caller passes
        the datagram to ``receive`` then. A flow that had to make room is added to ``displaced``.
        """
        refusal = self._bad_size(size) or self._no_place(address[0], now)
        if refusal is not None:
            return self.drop(refusal)
        flow = Flow(address, client_network(address[0]), now)
        self._flows[address] = self._unproven[address] = flow
        self._of_client.setdefault(flow.client, {})[address] = flow
        return flow

    def _no_place(self, host: str, now: float) -> Drop | None:
        if not self._permits(host):
            return Drop.DENIED
        of_client = self._of_client.get(client_network(host), {})
        if len(of_client) >= self._limits.flows_per_client:
            oldest = next((flow for flow in of_client.values() if not flow.is_proven), None)
            return None if self._displace(oldest, now) else Drop.CLIENT_FULL
        if len(self._flows) >= self._limits.flows:
            oldest = next(iter(self._unproven.values()), None)
            return None if self._displace(oldest, now) else Drop.FULL
        return None

    def _displace(self, oldest: Flow | None, now: float) -> bool:
        """End an unproven flow to make room, if it is old enough. Returns whether there is room now."""
        if oldest is None or now - oldest.opened_at < LEAST_S:
            return False
        self.end(oldest, EndReason.ABANDONED)
        self.displaced.append(oldest)
        return True

    def receive(self, flow: Flow, data: bytes | memoryview, now: float) -> Drop | None:
        """A datagram of the flow's client; None if it must be sent to the server."""
        size = len(data)
        refusal = self._bad_size(size)
        if refusal is not None:
            return self.drop(refusal)
        flow.heard_at = now
        flow.bytes_up += size
        self.up.datagrams += 1
        self.up.bytes += size
        if flow.is_proven:
            flow.credit = UNANSWERED_BYTES
        else:
            self._receive_unproven(flow, bytes(data))
        return None

    def _receive_unproven(self, flow: Flow, data: bytes) -> None:
        if flow.bytes_down and data != flow.last_up:
            flow.is_proven = True
            flow.credit = UNANSWERED_BYTES
            flow.last_up = b""
            del self._unproven[flow.address]
        else:
            flow.credit += AMPLIFICATION * len(data)
            flow.last_up = data

    def reply(self, flow: Flow, size: int) -> Drop | None:
        """A datagram of the server with ``size`` bytes; None if it must be sent to the client."""
        if size > flow.credit:
            return self.drop(Drop.UNANSWERED if flow.is_proven else Drop.UNPROVEN)
        refusal = self._bad_size(size)
        if refusal is not None:
            return self.drop(refusal)
        flow.credit -= size
        flow.bytes_down += size
        self.down.datagrams += 1
        self.down.bytes += size
        return None

    def not_sent(self, flow: Flow, size: int, is_up: bool) -> None:
        """The last datagram that ``receive`` or ``reply`` has let pass could not be sent."""
        counts = self.up if is_up else self.down
        counts.datagrams -= 1
        counts.bytes -= size
        if is_up:
            flow.bytes_up -= size
        else:
            flow.bytes_down -= size
            flow.credit += size
        self.drop(Drop.NOT_SENT)

    def drop(self, reason: Drop) -> Drop:
        """Count a dropped datagram. Returns the reason."""
        self.drops[reason] += 1
        return reason

    def end(self, flow: Flow, reason: EndReason) -> None:
        """End an active flow."""
        flow.ended = reason
        del self._flows[flow.address]
        self._unproven.pop(flow.address, None)
        of_client = self._of_client[flow.client]
        del of_client[flow.address]
        if not of_client:
            del self._of_client[flow.client]

    def expired(self, now: float) -> list[Flow]:
        """End and return the flows whose deadline has passed."""
        expired = []
        for flow in self:
            reason = self._deadline_passed(flow, now)
            if reason is not None:
                self.end(flow, reason)
                expired.append(flow)
        return expired

    def _deadline_passed(self, flow: Flow, now: float) -> EndReason | None:
        if now - flow.heard_at >= self._limits.idle_s and flow.is_proven:
            return EndReason.CLIENT_SILENT
        if now - flow.opened_at >= self._limits.proof_s and not flow.is_proven:
            return EndReason.ABANDONED if flow.bytes_down else EndReason.UPSTREAM_UNAVAILABLE
        return None

    def _bad_size(self, size: int) -> Drop | None:
        if not size:
            return Drop.EMPTY
        return Drop.TOO_LARGE if size > self._limits.datagram_bytes else None
