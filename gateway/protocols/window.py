"""Out-of-order commands, kept until the missing ones before them arrive. Limited by count and bytes."""

from __future__ import annotations

from typing import final

from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits


@final
class Window:
    """``size_bytes``: total size of the command bodies. ``most_bytes``: its limit."""

    __slots__ = ("_commands", "_most_commands", "most_bytes", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        # Kind, body and arrival time, by sequence number.
        self._commands: dict[int, tuple[Kind, bytes, float]] = {}
        self._most_commands = limits.window_commands
        self.most_bytes = limits.up_buffer_bytes
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._commands)

    def __contains__(self, number: int) -> bool:
        return number in self._commands

    def has_room_for(self, body_bytes: int) -> bool:
        """Whether a command with a body of this size fits within the limits."""
        return (
            len(self._commands) < self._most_commands
            and self.size_bytes + body_bytes <= self.most_bytes
        )

    def has_gap(self, first: int) -> bool:
        """Whether a command is missing before the last one. ``first``: the next in order."""
        return max(self._commands, default=first - 1) - first + 1 != len(self._commands)

    def put(self, number: int, kind: Kind, body: bytes, now: float) -> None:
        """Add a command that is not in the window yet and fits (``has_room_for``)."""
        self._commands[number] = kind, body, now
        self.size_bytes += len(body)

    def take(self, number: int) -> tuple[Kind, bytes, float]:
        """Remove the command ``number``. Returns its kind, body and arrival time."""
        command = self._commands.pop(number)
        self.size_bytes -= len(command[1])
        return command

    @property
    def latest(self) -> Kind:
        """The kind of the command that arrived last. The window must not be empty."""
        return next(reversed(self._commands.values()))[0]

    @property
    def oldest_at(self) -> float:
        """The arrival time of the oldest command. The window must not be empty."""
        return next(iter(self._commands.values()))[2]

    def clear(self) -> None:
        """Discard all commands."""
        self._commands = {}
        self.size_bytes = 0
