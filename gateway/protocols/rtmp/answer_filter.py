"""Filter of a server's chunk stream, for a client that the gateway has answered before it had a server.

The client must not get a second answer to such a command, but the stream must stay as the server wrote it:
the header of a message can refer to that of the message before on its chunk stream. So an answer is not
removed. Its payload is replaced by a result of the same size for a call that no client makes, and clients
ignore that. All other bytes pass unchanged.

The filter ends with the server's next status, media, or answer to the client's request once the server has
that (``pass_on``), because servers answer in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_scanner import ChunkHeader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.message_editor import MessageEditor
from gateway.protocols.rtmp.messages import MEDIA_TYPES, Message, MessageType
from gateway.protocols.rtmp.stream_reader import Answered

_COMMANDS: Final = frozenset({MessageType.COMMAND, MessageType.COMMAND_AMF3})
_ANSWERS: Final = frozenset({"_result", "_error"})
# Clients number their calls from 1 on. 0 stands for a call without a result.
_NO_CALL: Final = 0.0
# Null, and an empty string.
_SHORTEST_STRING_BYTES: Final = 4


@final
class AnswerFilter(MessageEditor):
    """Of the server's bytes behind its handshake.

    ``results`` are the server's answers that were replaced, with the commands that they answer.
    """

    __slots__ = ("_answered", "_notices", "_transaction", "results")

    def __init__(self, answered: Sequence[Answered]) -> None:
        super().__init__()
        self._answered = list(answered)
        self._notices = {each.notice for each in answered if each.notice}
        # The transaction number of the client's request, once the server has it.
        self._transaction: float | None = None
        self.results: list[tuple[Answered, Command]] = []

    def pass_on(self, transaction: float) -> None:
        """The server gets the request, whose transaction number this is."""
        self._transaction = transaction

    def _can_edit(self, header: ChunkHeader) -> bool:
        if header.type in MEDIA_TYPES and self._transaction is not None:
            self.finish()
        return header.type in _COMMANDS

    def _edit(self, message: Message) -> bytes | None:
        command = _command_in(message)
        if command is None:
            return None
        if self._transaction is not None and self._is_last(command, self._transaction):
            self.finish()
        return _unnoticed(message) if self._is_second(command) else None

    def _is_last(self, command: Command, transaction: float) -> bool:
        is_answer = command.name in _ANSWERS and command.transaction == transaction
        return is_answer or command.name == "onStatus"

    def _is_second(self, command: Command) -> bool:
        """Whether the client has had an answer in the place of ``command``. Notes a result."""
        if command.name in _ANSWERS:
            for each in self._answered:
                if command.transaction == each.transaction:
                    self._answered.remove(each)
                    self.results.append((each, command))
                    return True
        return command.name in self._notices


def _command_in(message: Message) -> Command | None:
    """None if it cannot be read: the client may be able to."""
    try:
        return read_command(message)
    except RTMPError:
        return None


def _unnoticed(message: Message) -> bytes | None:
    """A payload of the same size, which clients ignore; None if there is none so short."""
    prefix = message.payload[:1] if message.type == MessageType.COMMAND_AMF3 else b""
    payload = prefix + amf0.encode("_result", _NO_CALL)
    missing = len(message.payload) - len(payload)
    if missing < 0:
        return None
    filler = missing - _SHORTEST_STRING_BYTES
    values: list[Value] = [None, " " * filler] if filler >= 0 else [None] * missing
    return payload + amf0.encode(*values)
