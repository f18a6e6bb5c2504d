"""The answers to the commands under way, in the order of the commands.

- Data is handed over as it arrives. Data of an answer ahead of its turn waits, up to a limit.
- What has arrived of an answer is skipped when it is repeated. A repeated answer may be longer than what
  had arrived, since a streamed one ends when its connection is lost; it cannot be shorter.
- A refusal takes effect when all earlier answers are complete.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, final

from gateway.protocols.commands import Kind
from gateway.protocols.responses import Response
from gateway.protocols.tunnel_client.interfaces import End
from gateway.protocols.tunnel_client.lane import Command

OK: Final = 200
# Looking a member up in its Enum costs as much as a call.
_OPEN, _SEND, _CLOSE = Kind.OPEN, Kind.SEND, Kind.CLOSE


class Owner(Protocol):
    """The session whose commands are exchanged."""

    def data(self, command: Command, data: bytes) -> None:
        """Data of the answer to the oldest command, without its interval byte."""

    def answered(self, command: Command, now: float) -> None:
        """The answer to the oldest command is complete."""

    def agreed(self, response: Response) -> None:
        """The head of the answer to open."""

    def refused(self, status: int) -> None:
        """The server refuses the oldest command."""

    def failed(self, end: End, cause: str) -> None:
        """The exchange cannot continue."""


@final
class OrderedAnswers:
    """``in_flight``: all commands whose answers have not been handed over whole, oldest first;
    ``in_flight_bytes``: the data of the sends among them.
    """

    __slots__ = ("_early_bytes", "_most_early_bytes", "_owner", "in_flight", "in_flight_bytes")

    def __init__(self, most_early_bytes: int, owner: Owner) -> None:
        self._most_early_bytes = most_early_bytes
        self._owner = owner
        self._early_bytes = 0
        self.in_flight: deque[Command] = deque()
        self.in_flight_bytes = 0

    def put(self, command: Command) -> None:
        """The command is to be answered after all others."""
        self.in_flight.append(command)
        if command.kind is _SEND:
            self.in_flight_bytes += len(command.body)

    def clear(self) -> None:
        """No answer is expected any longer."""
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def take(self, command: Command, piece: bytes) -> None:
        """Part of the body of an answer."""
        if command.status != OK:
            return
        if command.skip:
            skipped = min(command.skip, len(piece))
            command.skip -= skipped
            piece = piece[skipped:]
        if not piece:
            return
        command.received += len(piece)
        if command is self.in_flight[0]:
            self._hand_over(command, piece)
            return
        command.early.append(piece)
        self._early_bytes += len(piece)
        if self._early_bytes > self._most_early_bytes:
            self._owner.failed(End.LOST, "its answers are over the limit")

    def _hand_over(self, command: Command, piece: bytes) -> None:
        if command.interval is None and command.kind is not _OPEN and command.kind is not _CLOSE:
            command.interval = piece[0]
            piece = piece[1:]
        if piece:
            self._owner.data(command, piece)

    def complete(self, now: float) -> None:
        """Hand over what has become the oldest answer, as far as it has arrived."""
        while self.in_flight and self.in_flight[0].is_answered:
            command = self.in_flight[0]
            if command.status != OK:
                self._owner.refused(command.status)
                return
            if command.skip:
                self._owner.failed(End.LOST, "it repeats another answer")
                return
            self.in_flight.popleft()
            if command.kind is _SEND:
                self.in_flight_bytes -= len(command.body)
            self._owner.answered(command, now)
            if self.in_flight:
                self._hand_over_early(self.in_flight[0])

    def _hand_over_early(self, command: Command) -> None:
        early, command.early = command.early, []
        if early:
            data = b"".join(early)
            self._early_bytes -= len(data)
            self._hand_over(command, data)
