"""Commands that came before their turn, until the gap before them fills; bounded by count and bytes."""

from __future__ import annotations

from typing import final

from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits


@final
class Window:
    """``size_bytes`` is what the bodies of the commands in it take, ``most_bytes`` its bound."""

    __slots__ = ("_commands", "_most_commands", "most_bytes", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        # By number: what it is, its body, and when it came.
        self._commands: dict[int, tuple[Kind, bytes, float]] = {}
        self._most_commands = limits.window_commands
        self.most_bytes = limits.up_buffer_bytes
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._commands)

    def __contains__(self, number: int) -> bool:
        return number in self._commands

    def has_room_for(self, body: bytes) -> bool:
        """Whether one more command, with this body, is within the bounds."""
        return (
            len(self._commands) < self._most_commands
            and self.size_bytes + len(body) <= self.most_bytes
        )

    def put(self, number: int, kind: Kind, body: bytes, now: float) -> None:
        """Keep a command that is not in the window, and that there is room for."""
        self._commands[number] = kind, body, now
        self.size_bytes += len(body)

    def take(self, number: int) -> tuple[Kind, bytes, float]:
        """The command ``number``, whose turn it is: what it is, its body, and when it came."""
        command = self._commands.pop(number)
        self.size_bytes -= len(command[1])
        return command

    @property
    def latest(self) -> Kind:
        """What the command that came last is; there must be one."""
        return next(reversed(self._commands.values()))[0]

    @property
    def oldest_at(self) -> float:
        """When the command came that has waited longest; there must be one."""
        return next(iter(self._commands.values()))[2]

    def clear(self) -> None:
        """None of the commands will have its turn."""
        self._commands = {}
        self.size_bytes = 0
