"""One HTTP connection of a session's client, and the commands that are to be answered on it."""

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


@final
class Lane:
    """``commands``: those sent on this connection, oldest first. ``response``: the head of the answer to
    the first one, once it has arrived.
    """

    __slots__ = (
        "_limits",
        "commands",
        "index",
        "is_connected",
        "is_connecting",
        "reader",
        "response",
    )

    def __init__(self, index: int, limits: Limits) -> None:
        self.index = index
        self._limits = limits
        self.is_connecting = self.is_connected = False
        self.commands: deque[Command] = deque()
        self.reader = AnswerReader(limits)
        self.response: Response | None = None

    def reset(self) -> list[Command]:
        """The connection is gone. Returns the commands that were not answered."""
        unanswered = list(self.commands)
        self.commands.clear()
        self.is_connecting = self.is_connected = False
        self.reader = AnswerReader(self._limits)
        self.response = None
        return unanswered
