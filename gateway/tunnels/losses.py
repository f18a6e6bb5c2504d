"""End reasons of a session whose connection was lost."""

from __future__ import annotations

from typing import Final

from attrs import frozen
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from gateway.errors import ResourcesExhausted, ServiceUnavailable
from gateway.protocols.reasons import EndReason
from gateway.vanished_peers import has_vanished


@frozen
class Reasons:
    """The end reasons of a connection, by event."""

    closed: EndReason
    lost: EndReason
    vanished: EndReason
    stalled: EndReason

    def of_loss(self, failure: Failure) -> EndReason:
        """The reason for the loss that a protocol's ``connectionLost`` was called with."""
        if failure.check(ServiceUnavailable):
            return reason_of_refusal(failure.value)
        if has_vanished(failure):
            return self.vanished
        return self.closed if failure.check(ConnectionDone) else self.lost


OF_CLIENT: Final = Reasons(
    EndReason.CLIENT_CLOSED,
    EndReason.CLIENT_LOST,
    EndReason.CLIENT_VANISHED,
    EndReason.CLIENT_STALLED,
)
OF_UPSTREAM: Final = Reasons(
    EndReason.UPSTREAM_CLOSED,
    EndReason.UPSTREAM_LOST,
    EndReason.UPSTREAM_VANISHED,
    EndReason.UPSTREAM_STALLED,
)


def reason_of_refusal(error: BaseException | None) -> EndReason:
    """The reason for the end of a session that got no upstream connection."""
    if isinstance(error, ResourcesExhausted):
        return EndReason.RESOURCES_EXHAUSTED
    return EndReason.UPSTREAM_UNAVAILABLE
