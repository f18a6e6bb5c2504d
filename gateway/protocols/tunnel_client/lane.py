"""The HTTP connections of a session's client, and the commands that are to be answered on each.

A connection on which commands are unanswered, and nothing has arrived for ``quiet_s``, is suspected to be
dead: the machine may have another address now, or a firewall has forgotten the connection. The kernel
reports that only to a client that sends data. A connection whose peer acknowledges data is slow, not dead.
"""

from __future__ import annotations

from collections import deque
from typing import final

from attrs import define, field

from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.responses import Response
from gateway.protocols.tunnel_client.answers import AnswerReader


@define(eq=False)
class Command:
    """A command, until its answer has been delivered.

    ``sent_at``: when it was sent last. ``due_at``: by when its answer must be complete, or have made
    progress. ``received``: how much of the answer has arrived, of all attempts together; ``skip``: how much
    of that the current attempt has not repeated yet. ``early``: its data, which waits for older answers.
    ``begun_at``: when the first byte of the answer arrived, and ``was_last``: whether no later command had
    been sent by then.
    """

    kind: Kind
    number: int
    body: bytes
    sent_at: float
    due_at: float
    received: int = 0
    skip: int = 0
    received_before: int = 0
    interval: int | None = None
    early: list[bytes] = field(factory=list)
    is_answered: bool = False
    status: int = 200
    begun_at: float = 0.0
    was_last: bool = False


@final
class Lane:
    """``commands``: those sent on this connection, oldest first. ``response``: the head of the answer to
    the first one, once it has arrived. ``heard_at``: when bytes have arrived last, or the first of
    ``commands`` was sent; ``unacknowledged``: the bytes that the peer had not acknowledged at the last
    check.
    """

    __slots__ = (
        "_limits",
        "commands",
        "heard_at",
        "index",
        "is_connected",
        "is_connecting",
        "reader",
        "response",
        "unacknowledged",
    )

    def __init__(self, index: int, limits: Limits) -> None:
        self.index = index
        self._limits = limits
        self.is_connecting = self.is_connected = False
        self.commands: deque[Command] = deque()
        self.reader = AnswerReader(limits)
        self.response: Response | None = None
        self.heard_at = 0.0
        self.unacknowledged = 0

    @property
    def is_free(self) -> bool:
        """Whether it can carry a command whose answer is behind no other."""
        return self.is_connected and not self.commands

    @property
    def is_closed(self) -> bool:
        return not (self.is_connected or self.is_connecting)

    def put(self, command: Command, now: float) -> None:
        """The command is sent on this connection."""
        if not self.commands:
            self.heard_at = now
        self.commands.append(command)

    def reset(self) -> list[Command]:
        """The connection is gone. Returns the commands that were not answered."""
        unanswered = list(self.commands)
        self.commands.clear()
        self.is_connecting = self.is_connected = False
        self.reader = AnswerReader(self._limits)
        self.response = None
        return unanswered

    def is_dead(self, now: float, quiet_s: float, unacknowledged: int) -> bool:
        """Check a connection. To be called every half of ``quiet_s``, with the bytes that its peer has not
        acknowledged.
        """
        before, self.unacknowledged = self.unacknowledged, unacknowledged
        is_slow = 0 < unacknowledged < before
        return bool(self.commands) and now - self.heard_at >= quiet_s and not is_slow
